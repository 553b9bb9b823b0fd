"""docs/method.md's pseudo-code and SamplingPass.delta are the same steps, read from the document and the sources."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIB = ROOT / "lib_beyondfacial"
HEADING = "## The method as pseudo-code"
DELTA = LIB / "sampling/sampling_pass.py"
STEPS = {  # name -> the files that define it, under that name or as a method of it
    "compute_maps": [LIB / "method/mask.py"],
    "cut_maps": [LIB / "method/assignment.py"],
    "compute_masks": [LIB / "method/mask.py"],
    "compute_differences": [LIB / "method/fusion.py"],
    "fuse": [LIB / "method/fusion.py"],
    "refine_heads": [LIB / "sampling/head_refinement.py"],
    "apply_target": [LIB / "method/head_refinement.py"],
}
MAX_DELTA, MAX_STEP = 40, 30  # lines


def functions_of(source: str, name: str) -> list[ast.FunctionDef]:
    return [each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.FunctionDef) and each.name == name]


def steps_called(tree: ast.AST) -> list[str]:
    """The steps that are called by name, or as a method, in the order of the source."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [
        (each.lineno, each.col_offset, getattr(each.func, "attr", getattr(each.func, "id", ""))) for each in calls
    ]
    return [name for _, _, name in sorted(named) if name in STEPS]


def lines_of(function: ast.FunctionDef) -> int:
    return function.end_lineno - function.lineno + 1


def pseudo_code(text: str) -> list[str]:
    """The first indented block under the heading."""
    lines = text.split(HEADING, 1)[1].splitlines()
    below = itertools.dropwhile(lambda line: not line.startswith("    "), lines)
    return list(itertools.takewhile(lambda line: line.startswith("    "), below))


def delta() -> ast.FunctionDef:
    (found,) = functions_of(DELTA.read_text("utf-8"), "delta")
    return found


def test_pseudo_code_names_every_step_once_in_order():
    block = "\n".join(pseudo_code((ROOT / "docs/method.md").read_text("utf-8")))
    names = re.findall(r"\b(\w+)\(", block)
    assert [name for name in names if name in STEPS] == list(STEPS)


def test_delta_calls_the_steps_of_the_pseudo_code_in_order():
    assert steps_called(delta()) == list(STEPS)


def test_delta_is_at_most_40_lines():
    assert lines_of(delta()) <= MAX_DELTA


@pytest.mark.parametrize("name", STEPS)
def test_step_calls_no_other_step_and_is_at_most_30_lines(name):
    for path in STEPS[name]:
        found = functions_of(path.read_text("utf-8"), name)
        assert found, f"{name} is not in {path}"
        for function in found:
            assert not steps_called(function)
            assert lines_of(function) <= MAX_STEP


@pytest.mark.parametrize("name", STEPS)
def test_step_is_defined_nowhere_else(name):
    defining = {path for path in LIB.rglob("*.py") if functions_of(path.read_text("utf-8"), name)}
    assert defining == set(STEPS[name])


def test_check_finds_reordered_and_nested_steps():
    assert steps_called(ast.parse("fuse(d, m)\nself.policy.compute_masks(p)")) == ["fuse", "compute_masks"]
    assert steps_called(ast.parse("def fuse():\n    return apply_target(1)")) == ["apply_target"]
    text = f"x\n{HEADING}\nSentence.\n\n    a = fuse(b)\n        c()\n\nfuse(again)"
    assert pseudo_code(text) == ["    a = fuse(b)", "        c()"]
