"""Who may import whom (docs/contributing.md), read from the sources; and importing does nothing but import."""

from __future__ import annotations

import ast
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


# unit -> (units or modules of ours, packages at the top of a file, packages inside functions)
RULES = {
    "errors": (set(), set(), set()),
    "settings": ({"errors"}, set(), set()),
    "method": ({"settings.parameters"}, NUMERIC, set()),
    "faces": ({"settings", "errors"}, NUMERIC | {"cv2", "PIL"}, FACE_LIBRARIES),
    "adapters": ({"settings", "errors"}, NUMERIC | {"cv2"}, FACE_LIBRARIES | {"transformers"}),
    "hosts": ({"settings", "errors", "method", "faces", "adapters"}, NUMERIC | {"cv2", "PIL"}, HOST | {"fastapi"}),
    "webui": (
        {"settings", "errors", "faces", "adapters", "hosts"},
        {"numpy", "PIL", "gradio", "fastapi"} | HOST,
        set(),
    ),
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
UNITS = ["errors", "settings", "method.engine", "faces", "adapters", "hosts", "webui.run", "webui.ui", "webui.api"]


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
