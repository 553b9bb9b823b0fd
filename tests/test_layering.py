"""Who may import whom (docs/contributing.md), read from the sources; and importing does nothing but import."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIB = ROOT / "lib_beyondfacial"
STDLIB = set(sys.stdlib_module_names)
NUMERIC = {"torch", "numpy"}
FACE_LIBRARIES = {"insightface", "onnxruntime", "onnx", "safetensors", "requests"}
HOST = {"modules", "modules_forge", "ldm_patched", "backend", "ldm", "sgm", "k_diffusion"}
MAX_LINES, MAX_SCRIPT_LINES = 300, 150
WITHOUT_CIRCLES = ["lib_beyondfacial", "demo", "bench"]


# unit -> (units or modules of ours, packages at the top of a file, packages inside functions)
BELOW_FACES = {"settings", "errors", "common", "method", "unet"}
BELOW_HOSTS = BELOW_FACES | {"faces", "adapters", "sampling"}
RULES = {
    "errors": (set(), set(), set()),
    "common": (set(), set(), set()),
    "settings": ({"errors"}, set(), set()),
    "method": ({"settings.parameters"}, NUMERIC, set()),
    "unet": ({"errors", "method"}, NUMERIC, set()),
    "faces": (BELOW_FACES, NUMERIC | {"cv2", "PIL"}, FACE_LIBRARIES),
    "adapters": (BELOW_FACES, NUMERIC | {"cv2"}, FACE_LIBRARIES | {"transformers"}),
    "sampling": (BELOW_FACES | {"faces", "adapters"}, NUMERIC | {"cv2"}, set()),
    "hosts": (BELOW_HOSTS, NUMERIC, HOST | {"fastapi"}),
    "webui": (BELOW_HOSTS | {"hosts"}, {"numpy", "PIL", "gradio", "fastapi"} | HOST, set()),
}


def unit_of(path: Path) -> str:
    """The unit a file of lib_beyondfacial belongs to; the package's own __init__ counts as "package"."""
    first = path.relative_to(LIB).parts[0]
    return "package" if first == "__init__.py" else first.removesuffix(".py")


def imports_of(path: Path, package: tuple[str, ...]) -> list[tuple[str, bool, int]]:
    """(absolute dotted name, at the top of the file, line) of every import; those for type checkers only count too."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            stem = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*stem, alias.name]) for alias in node.names]
        else:
            continue
        found += [(name, id(node) not in inside, node.lineno) for name in names]
    return found


def violations(path: Path) -> list[str]:
    """Each import of a lib_beyondfacial file that its unit's rule does not allow."""
    unit = unit_of(path)
    package = ("lib_beyondfacial", *path.relative_to(LIB).parts[:-1])
    ours, top, lazy = RULES.get(unit, (set(), set(), set()))
    bad = []
    for name, at_top, line in imports_of(path, package):
        parts = name.split(".")
        if parts[0] == "lib_beyondfacial":
            allowed = {f"lib_beyondfacial.{each}" for each in {unit, "__version__"} | ours}
            is_allowed = any(f"{name}.".startswith(f"{each}.") for each in allowed)
        else:
            is_allowed = parts[0] in STDLIB | top or (not at_top and parts[0] in lazy)
        if not is_allowed:
            bad.append(f"{path.relative_to(ROOT)}:{line}: {unit} imports {name}{' at the top' if at_top else ''}")
    return bad


SOURCES = sorted(LIB.rglob("*.py"))
OWN = sorted(
    path
    for folder in ("lib_beyondfacial", "scripts", "demo", "bench", "tests")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(LIB)))
def test_imports_follow_the_table(path):
    assert unit_of(path) in RULES.keys() | {"package"}, "a new unit needs a line in RULES and in docs/contributing.md"
    assert not violations(path)


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("method/x.py", "import gradio"),
        ("method/x.py", "def f():\n    from modules import shared"),
        ("method/x.py", "from ..faces import photos"),
        ("method/x.py", "from ..settings import MethodParameters"),
        ("method/x.py", "from .. import settings"),
        ("faces/x.py", "import insightface"),
        ("adapters/x.py", "from ..method import fusion"),
        ("hosts/x.py", "from ..webui import ui"),
        ("hosts/x.py", "from modules import shared"),
        ("webui/x.py", "from demo import dollhouse"),
        ("settings/x.py", "import numpy"),
        ("settings/x.py", "from .. import faces"),
    ],
)
def test_the_check_sees_what_it_forbids(where, code, tmp_path, monkeypatch):
    lib = tmp_path / "lib_beyondfacial"
    path = lib / where
    path.parent.mkdir(parents=True)
    path.write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "LIB", lib)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert violations(path)


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


@pytest.mark.parametrize("unit", WITHOUT_CIRCLES)
def test_no_import_circle(unit):
    graph = import_graph(ROOT / unit if unit == "demo" else LIB / unit)
    assert any(graph.values())
    assert not find_circle(graph)


def test_no_circle_of_units():
    assert not find_circle({unit: ours for unit, (ours, _, _) in RULES.items()})


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


def test_the_script_imports_at_load_time_only_and_stays_small():
    script = ROOT / "scripts/beyondfacial.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= MAX_SCRIPT_LINES
    imports = imports_of(script, ())
    assert imports
    assert all(at_top for _, at_top, _ in imports)
    assert {name.split(".")[0] for name, _, _ in imports} <= {"lib_beyondfacial", "modules"}


@pytest.mark.parametrize("path", OWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


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
    "method.engine",
    "faces",
    "adapters",
    "hosts",
    "webui.run",
    "webui.ui",
    "webui.api",
]


@pytest.mark.parametrize("unit", UNITS)
def test_importing_does_nothing_but_import(unit):
    code = IMPORT_ONE_UNIT.format(root=str(ROOT), unit=f"lib_beyondfacial.{unit}", needs_host=unit.startswith("webui"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("spent") < 0.25  # seconds of CPU, sources not yet compiled; 0.05 is the aim, warm
    assert seen == {
        "opened": [],
        "same_environment": True,
        "same_threads": True,
        "same_path": True,
        "same_torch": True,
        "heavy": [],
    }
