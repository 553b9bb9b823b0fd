"""Who may import whom (docs/contributing.md), read from the sources."""

from __future__ import annotations

import ast
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
# Each row may import the rows before it. Of a row's own units none may import another.
ORDER = [
    {"errors", "common"},
    {"settings"},
    {"method"},
    {"unet"},
    {"adapters", "faces"},
    {"sampling"},
    {"hosts"},
    {"webui"},
]
PROMPT_PARSER_FILES = ("hosts/model.py", "hosts/a1111/model.py", "hosts/forge/model.py")

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
    below, top, lazy = RULES.get(unit, (set(), set(), set()))
    bad = []
    for name, at_top, line in imports_of(path, package):
        parts = name.split(".")
        if parts[0] == "lib_beyondfacial":
            allowed = {f"lib_beyondfacial.{each}" for each in {unit, "__version__"} | below}
            is_allowed = any(f"{name}.".startswith(f"{each}.") for each in allowed)
        else:
            is_allowed = parts[0] in STDLIB | top or (not at_top and parts[0] in lazy)
        if not is_allowed:
            bad.append(f"{path.relative_to(ROOT)}:{line}: {unit} imports {name}{' at the top' if at_top else ''}")
    return bad


def test_rules_are_the_order_of_the_units():
    """Whatever a unit may import stands in a row before its own; method needs no more of settings than parameters."""
    row = {unit: number for number, units in enumerate(ORDER) for unit in units}
    assert row.keys() == RULES.keys()
    for unit, (below, _, _) in RULES.items():
        assert all(row[each.split(".")[0]] < row[unit] for each in below), unit
    assert RULES["method"][0] == {"settings.parameters"}


def outside_violations(path: Path) -> list[str]:
    """Each import of a file of demo/ or bench/ that reaches deeper into hosts than its one door."""
    found = imports_of(path, path.relative_to(ROOT).parts[:-1])
    hosts = [(name, line) for name, _, line in found if f"{name}.".startswith("lib_beyondfacial.hosts.")]
    return [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for name, line in hosts
        if not f"{name}.".startswith("lib_beyondfacial.hosts.request.")
    ]


@pytest.mark.parametrize("folder", ["demo", "bench"])
def test_outside_the_library_hosts_have_one_door(folder):
    assert not [bad for path in (ROOT / folder).rglob("*.py") for bad in outside_violations(path)]


@pytest.mark.parametrize(
    ("code", "is_bad"),
    [
        ("from lib_beyondfacial.hosts import request", False),
        ("from lib_beyondfacial.hosts.request import begin", False),
        ("def f():\n    from lib_beyondfacial.hosts.run import Run", True),
        ("from lib_beyondfacial.hosts import run", True),
        ("import lib_beyondfacial.hosts", True),
        ("from lib_beyondfacial.sampling.plan import Plan", False),
    ],
)
def test_the_check_sees_other_doors_to_hosts(code, is_bad, tmp_path, monkeypatch):
    path = tmp_path / "bench/x.py"
    path.parent.mkdir()
    path.write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert bool(outside_violations(path)) is is_bad


def names_prompt_parser(source: str) -> bool:
    """Whether a source imports the web UI's prompt_parser, or asks for it by name."""
    return any(
        (isinstance(node, ast.alias) and "prompt_parser" in node.name)
        or (isinstance(node, ast.ImportFrom) and "prompt_parser" in (node.module or ""))
        or (isinstance(node, ast.Attribute) and node.attr == "prompt_parser")
        or (isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith("prompt_parser"))
        for node in ast.walk(ast.parse(source))
    )


def test_prompt_parser_is_asked_by_the_hosts_models_alone():
    asking = [path.relative_to(LIB).as_posix() for path in SOURCES if names_prompt_parser(path.read_text("utf-8"))]
    assert asking
    assert set(asking) <= set(PROMPT_PARSER_FILES)


@pytest.mark.parametrize(
    "code",
    [
        "from modules import prompt_parser",
        "def f():\n    from modules.prompt_parser import SdConditioning",
        "import modules.prompt_parser as p",
        "import modules\nmodules.prompt_parser.reconstruct_cond_batch",
        "import importlib\nimportlib.import_module('modules.prompt_parser')",
    ],
)
def test_the_check_sees_prompt_parser(code):
    assert names_prompt_parser(code)
    assert not names_prompt_parser("from modules import devices")


SOURCES = sorted(LIB.rglob("*.py"))
OUR_FOLDERS = sorted(
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
        ("method/x.py", "from ..errors import BeyondFacialError"),
        ("method/x.py", "from ..unet.rows import LineRows"),
        ("common.py", "from .errors import BeyondFacialError"),
        ("common.py", "import numpy"),
        ("unet/x.py", "from ..adapters import get_adapter"),
        ("unet/x.py", "from ..settings.parameters import MethodParameters"),
        ("adapters/x.py", "from ..faces import get_analyser"),
        ("adapters/x.py", "from ..sampling.plan import Plan"),
        ("faces/x.py", "from ..adapters import get_adapter"),
        ("sampling/x.py", "from ..hosts.run import Run"),
        ("sampling/x.py", "def f():\n    from modules import prompt_parser"),
        ("sampling/x.py", "def f():\n    import onnxruntime"),
        ("hosts/x.py", "import gradio"),
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
    assert {name.split(".")[0] for name, _, _ in imports} <= {"lib_beyondfacial", "modules", "pathlib", "sys"}


@pytest.mark.parametrize("path", OUR_FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
