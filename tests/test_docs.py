"""What README.md and docs/ name is there: paths, functions, settings, commands, make targets, flags, routes, links."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from lib_beyondfacial.settings import BY_KEY

ROOT = Path(__file__).parents[1]
LIB = ROOT / "lib_beyondfacial"
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BASES = (ROOT, LIB, LIB / "hosts")  # what the docs' paths may start from
MADE = ("demo/out/", "bench/out/", "docs/hosts/NAME.md")  # there after a command only, or a placeholder
IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\(\))?")
FOREIGN = {"HTTPException", "RuntimeError", "CON", "sys.path", "script_name", "x_to_y"}  # of others; a pattern
PATH = re.compile(r"(?<![\w/.:-])((?:[\w-]+/)+[\w.*-]*|[\w-]+\.py)(?::([A-Za-z_][\w.]*))?")
ROUTE = re.compile(r"/beyondfacial/v1[\w/{}]*")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
Definitions = dict[str, tuple[set[str], list[str]]]


def wrong_names(text: str, folder: Path = ROOT / "docs") -> list[str]:
    """Everything that the text of a document in that folder names and that is not there."""
    code = [span.strip() for span in re.findall(r"`([^`\n]+)`", text)] + re.findall(
        r"^ {4}(\S.*)$", text, re.MULTILINE
    )
    found = [*wrong_paths(text), *wrong_commands(code), *wrong_identifiers(code), *wrong_settings(text)]
    flags = set(re.findall(r"--beyondfacial[\w-]*", text))
    found += [f"flag {flag}" for flag in flags if f'"{flag}"' not in (ROOT / "preload.py").read_text(encoding="utf-8")]
    found += [f"route {route}" for route in ROUTE.findall(text) if not is_route(route)]
    return found + [f"link {link}" for link in wrong_links(text, folder)]


def wrong_paths(text: str) -> Iterator[str]:
    """Paths whose first folder is one of ours, and file:Name in them."""
    for found, name in PATH.findall(text):
        path = found.rstrip(".")
        is_ours = "/" not in path or any((base / path.partition("/")[0]).is_dir() for base in BASES)
        if not is_ours or path.startswith(MADE):
            continue
        places = [place for base in BASES for place in base.glob(path.rstrip("/"))]
        if not places:
            yield f"path {path}"
        elif name and not any(is_defined(name, place) for place in places):
            yield f"name {path}:{name}"


def is_defined(name: str, place: Path) -> bool:
    """Whether a file, or one directly in a folder, defines "function", "Class" or "Class.attribute"."""
    files = [place] if place.is_file() else place.glob("*.py")
    return any(has_name(name.rstrip("."), definitions(file)) for file in files)


def has_name(name: str, known: Definitions) -> bool:
    owner, _, attribute = name.partition(".")
    if owner not in known or not attribute:
        return owner in known
    members, bases = known[owner]
    return attribute in members or any(has_name(f"{base}.{attribute}", all_definitions()) for base in bases)


@functools.cache
def definitions(file: Path) -> Definitions:
    """Each top-level name of a file: the members and the bases of a class, nothing of the rest."""
    found: Definitions = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        for name in bound_names(node):
            found[name] = (set(), [])
        if isinstance(node, ast.ClassDef):
            inner = {name for each in node.body for name in bound_names(each)}
            attributes = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            found[node.name] = (inner | attributes, bases)
    return found


def bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [each.id for target in targets if target for each in ast.walk(target) if isinstance(each, ast.Name)]


@functools.cache
def all_definitions() -> Definitions:
    return {name: what for file in LIB.rglob("*.py") for name, what in definitions(file).items()}


@functools.cache
def words_of_sources() -> frozenset[str]:
    """Every word of the sources: what a document names without saying in which file."""
    folders = ("lib_beyondfacial", "demo", "bench", "tests", "scripts", "javascript", "requirements")
    files = [
        file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".js", ".txt")
    ]
    files += [ROOT / name for name in ("install.py", "preload.py", "Makefile", "pyproject.toml", "metadata.ini")]
    texts = (file.read_text(encoding="utf-8") for file in files if file.name not in ("test_docs.py", "words.txt"))
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


def wrong_identifiers(code: list[str]) -> Iterator[str]:
    """Names in backticks: an attribute of a class or module of ours is its own, any other a word of the sources."""
    stems = [file.stem for file in LIB.rglob("*.py")]
    for span in code:
        if not IDENTIFIER.fullmatch(span) or span in FOREIGN:
            continue
        name = span.removesuffix("()")
        first, _, rest = name.partition(".")
        if rest and first in all_definitions() and first[0].isupper():
            is_right = has_name(name, all_definitions())
        elif rest and first in stems and rest != "py":
            is_right = any(is_defined(rest, file) for file in LIB.rglob(f"{first}.py"))
        else:
            is_right = set(name.split(".")) <= words_of_sources() or any((base / name).exists() for base in BASES)
        if not is_right:
            yield f"name {span}"


def wrong_commands(code: list[str]) -> Iterator[str]:
    """make TARGET, and python -m MODULE."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in code:
        for target in re.findall(r"\bmake ([a-z][\w-]*)", line if line.startswith("make") else ""):
            if not re.search(rf"^{target}:", makefile, re.MULTILINE):
                yield f"target {target}"
        for module in re.findall(r"python\S* -m ([\w.]+)", line):
            if not is_runnable(module):
                yield f"module {module}"


def is_runnable(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    if (ROOT / module.partition(".")[0]).is_dir():
        return path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    return find_spec(module) is not None


def wrong_settings(text: str) -> Iterator[str]:
    """Keys of the objects in alwayson_scripts."""
    for block in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        scripts = json.loads(block).get("alwayson_scripts", {})
        for key in (key for given in scripts.values() for unit in given["args"] for key in unit):
            if key not in BY_KEY:
                yield f"setting {key}"


@functools.cache
def registered_routes() -> list[re.Pattern[str]]:
    from fastapi import FastAPI

    from demo.miniwebui import host

    host.install_import_names()
    from lib_beyondfacial.webui import api

    app = FastAPI()
    api.mount(None, app)
    return [re.compile(re.sub(r"\{[^}]*\}", "[^/]+", route.path)) for route in app.routes]


def is_route(route: str) -> bool:
    route = route.rstrip("/")
    return any(known.fullmatch(route) or known.pattern.startswith(f"{route}/") for known in registered_routes())


def wrong_links(text: str, folder: Path) -> Iterator[str]:
    for target, anchor in LINK.findall(text):
        place = folder / target
        if "://" in target:
            continue
        if target and not place.exists():
            yield target
        elif anchor and anchor not in anchors(place.read_text(encoding="utf-8") if target else text):
            yield f"{target}#{anchor}"


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))
def test_what_a_document_names_is_there(doc):
    assert wrong_names(doc.read_text(encoding="utf-8"), doc.parent) == []


PLANTED = {
    "path method/mask.py, path method/maks.py": "path method/maks.py",
    "`tests/hosts/test_nothing.py`": "path tests/hosts/test_nothing.py",
    "docs/nothing.md": "path docs/nothing.md",
    "`method/mask.py:AdaptiveMask.gate` `method/mask.py:AdaptiveMask.fence`": "name method/mask.py:AdaptiveMask.fence",
    "`run.py:begin_pass` `run.py:begin_passes`": "name run.py:begin_passes",
    "`a1111/model.py:A1111Host.model_key` `a1111/model.py:A1111Host.no_key`": "name a1111/model.py:A1111Host.no_key",
    "`Step.sigma` `Step.sigmoid`": "name Step.sigmoid",
    "`fusion.fuse` `fusion.confuse`": "name fusion.confuse",
    "`refine_head` `closer_look`": "name closer_look",
    "`test_old_text_occurs_once_and_the_new_one_is_python` `test_no_such_thing`": "name test_no_such_thing",
    "`make test-slow` `make tests`": "target tests",
    "    make test | make tset": "target tset",
    "`python -m bench.quality` `python -m bench.quantity`": "module bench.quantity",
    "    .venv/bin/python -m tests.nothing --only 3": "module tests.nothing",
    '```json\n{"alwayson_scripts": {"BeyondFacial": {"args": [{"weight": 1, "wait": 1}]}}}\n```\n': "setting wait",
    "--beyondfacial-models-dir --beyondfacial-model-dir": "flag --beyondfacial-model-dir",
    "GET /beyondfacial/v1/schema/faces, /beyondfacial/v1/schemata": "route /beyondfacial/v1/schemata",
    "[one](method.md#symbols) [two](method.md#cymbals)": "link method.md#cymbals",
    "[one](method.png) [two](methods.png)": "link methods.png",
}


@pytest.mark.parametrize("text", PLANTED)
def test_a_wrong_name_is_found_beside_a_right_one(text):
    assert wrong_names(text) == [PLANTED[text]]
