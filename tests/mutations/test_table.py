"""The table of mutations fits the sources as they are; whether they are killed: `python -m tests.mutations`."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.mutations import PACKAGE, ROOT, Mutation, all_mutations

MUTATIONS = all_mutations()
UNITS = ("method", "unet", "adapters", "sampling", "hosts")
DOZEN = 12


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: f"{each.file}: {each.why}")
def test_old_text_occurs_once_and_the_new_one_is_python(mutation):
    text = (ROOT / PACKAGE / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1
    assert ast.dump(ast.parse(text.replace(mutation.old, mutation.new))) != ast.dump(ast.parse(text))
    assert all((ROOT / test).exists() for test in mutation.tests.split())


def test_every_unit_has_its_dozen_and_no_fault_is_there_twice():
    units = Counter(each.file.partition("/")[0] for each in MUTATIONS)
    assert set(units) == set(UNITS)
    assert min(units.values()) >= DOZEN
    assert len({(each.file, each.old) for each in MUTATIONS}) == len(MUTATIONS)


def test_apply_refuses_text_that_is_not_there_once(tmp_path):
    file = tmp_path / PACKAGE / "x.py"
    file.parent.mkdir()
    file.write_text("a = 1\nb = 1\n", encoding="utf-8")
    for old, count in (("1", 2), ("c", 0)):
        with pytest.raises(ValueError, match=f"{count} times"):
            Mutation("x.py", old, "2", "", "").apply(tmp_path)
    mutation = Mutation("x.py", "a = 1", "a = 2", "", "")
    before = mutation.apply(tmp_path)
    assert file.read_text(encoding="utf-8") == "a = 2\nb = 1\n"
    mutation.undo(tmp_path, before)
    assert file.read_text(encoding="utf-8") == "a = 1\nb = 1\n"
