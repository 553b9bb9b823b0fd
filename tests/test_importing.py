"""No module imports itself in turn, read from the sources; and importing does nothing but import."""

from __future__ import annotations

import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_layering import imports_of

ROOT = Path(__file__).parents[1]
WITHOUT_CIRCLES = ["lib_beyondfacial", "demo", "bench"]


def import_graph(folder: Path) -> dict[str, set[str]]:
    """Each module below the folder, and those of the same folder that it imports, for type checkers or not."""
    modules = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {}
    for module, path in modules.items():
        package = path.relative_to(ROOT).parts[:-1]
        names = {name for name, _, _ in imports_of(path, package)}
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & modules.keys()
    return graph


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in turn, the first one again at the end; [] where there are none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("folder", WITHOUT_CIRCLES)
def test_no_import_circle(folder):
    graph = import_graph(ROOT / folder)
    assert any(graph.values())
    assert not find_circle(graph)


CIRCLES = [  # the package's own file, a and b
    ("", "from .b import x", "from .a import y"),
    ("", "from . import b", "from demo.x import a"),
    ("", "import demo.x.b", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import Y"),
    ("", "from .b import x", "def f():\n    from demo.x.a import y"),
    ("from .a import z", "from . import CONSTANT", ""),
    ("", "from .a import itself", ""),
]


@pytest.mark.parametrize(("package", "first", "second"), CIRCLES)
def test_the_check_sees_circles(package, first, second, tmp_path, monkeypatch):
    folder = tmp_path / "demo/x"
    folder.mkdir(parents=True)
    for name, code in (("__init__", package), ("a", first), ("b", second)):
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert find_circle(import_graph(tmp_path / "demo"))
    (folder / "a.py").write_text("import json", encoding="utf-8")
    assert not find_circle(import_graph(tmp_path / "demo"))


IMPORT_ONE_UNIT = """
import json, os, sys, threading, time
sys.path.insert(0, {root!r})
import numpy, torch, PIL.Image
try:
    import cv2
except ImportError:
    pass
if {needs_host}:
    import gradio, fastapi
    from demo.miniwebui import host
    host.install_import_names()
opened = []
def watch(event, args):
    writes = event == "open" and isinstance(args[1], str) and any(c in args[1] for c in "wax+")
    if writes or event in ("socket.connect", "subprocess.Popen"):
        opened.append(str(args[0]))
sys.addaudithook(watch)
sys.dont_write_bytecode = True
environment, threads, path = dict(os.environ), threading.active_count(), list(sys.path)
hooks = torch.nn.Module.__call__, torch.load, torch.get_num_threads()
before = set(sys.modules)
begun = time.process_time()
import {unit}
spent = time.process_time() - begun
print(json.dumps(dict(
    spent=spent, opened=opened, same_environment=environment == dict(os.environ),
    same_threads=threads == threading.active_count(), same_path=path == sys.path,
    same_torch=hooks == (torch.nn.Module.__call__, torch.load, torch.get_num_threads()),
    heavy=sorted((set(sys.modules) - before) & {{"insightface", "onnxruntime", "onnx", "safetensors", "gradio"}}),
)))
"""
UNITS = [
    "errors",
    "common",
    "settings",
    "method.mask",
    "unet.injection",
    "faces",
    "adapters",
    "sampling.sampling_pass",
    "hosts.request",
    "hosts.a1111.callbacks",
    "hosts.forge.callbacks",
    "webui.run",
    "webui.ui",
    "webui.api",
]


@pytest.mark.parametrize("unit", UNITS)
def test_importing_does_nothing_but_import(unit):
    code = IMPORT_ONE_UNIT.format(root=str(ROOT), unit=f"lib_beyondfacial.{unit}", needs_host=unit.startswith("webui"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    state = json.loads(done.stdout.splitlines()[-1])
    assert state.pop("spent") < 1.0  # seconds of CPU, sources not yet compiled; 0.05 is the aim, warm
    assert state == {
        "opened": [],
        "same_environment": True,
        "same_threads": True,
        "same_path": True,
        "same_torch": True,
        "heavy": [],
    }
