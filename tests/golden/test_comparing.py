"""The comparison itself: what it must call different, and what it must let pass. No picture is generated here."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from lib_beyondfacial.settings import Settings
from tests.golden import __main__ as command
from tests.golden import comparing
from tests.golden.cases import CASES, payload_of
from tests.golden.comparing import CLOSE, EXACT, REFINED, find_differences, load, rule_of, save
from tests.golden.making import Result

KNOWN = frozenset(Settings.json_schema()["properties"])
BY_NAME = {case.name: case for case in CASES}


def result(picture: float = 100, mask: float = 50, **numbers: float) -> Result:
    pictures, masks = np.full((1, 8, 8, 3), picture, np.uint8), np.full((1, 8, 8), mask, np.uint8)
    values = {"similarity": 0.5, "warnings": 0.0, "heads_refined": 1.0, **numbers}
    return Result(pictures, masks, {name: np.array([value]) for name, value in values.items()})


def with_spot(levels: int) -> Result:
    """One value of one pixel differs."""
    changed = result()
    changed.pictures[0, 3, 4, 1] += levels
    return changed


@pytest.mark.parametrize("rule", [EXACT, CLOSE, REFINED])
def test_equal_results_are_equal(rule):
    assert find_differences(result(similarity=np.nan), result(similarity=np.nan), rule) == []


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        (EXACT, with_spot(1)),
        (EXACT, result(mask=51)),
        (EXACT, result(similarity=0.5 + 1e-6)),
        (CLOSE, with_spot(2)),
        (CLOSE, result(mask=48)),
        (CLOSE, result(similarity=0.52)),
        (REFINED, result(101)),
        (REFINED, result(mask=51)),
        (REFINED, result(similarity=0.52)),
        (REFINED, result(similarity=np.nan)),
        (REFINED, result(heads_refined=2)),
        (REFINED, result(warnings=1)),
        (REFINED, result(surplus=0)),
        (REFINED, Result(np.zeros((2, 8, 8, 3), "u1"), result().masks, result().numbers)),
    ],
)
def test_a_larger_difference_is_found(rule, made):
    assert len(find_differences(result(), made, rule)) == 1


@pytest.mark.parametrize(
    ("rule", "made"),
    [(CLOSE, result(101, 49)), (CLOSE, result(similarity=0.505)), (REFINED, with_spot(40))],
)
def test_a_smaller_difference_passes(rule, made):
    assert find_differences(result(), made, rule) == []


def test_only_eps_samplers_on_a1111_may_differ():
    assert rule_of("a1111", BY_NAME["euler"]) == rule_of("forge", BY_NAME["ddim"]) == EXACT
    assert rule_of("a1111", BY_NAME["ddim"]) == REFINED
    assert rule_of("a1111", BY_NAME["ddim unrefined"]) == CLOSE


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of two results; `compare` gets the first one again, and another second one."""
    path = tmp_path / "kept.npz"
    save(path, {("a1111", "euler"): result(), ("forge", "euler"): result()})

    def make_all(wanted):
        for key in sorted(wanted):
            yield key, result() if key[0] == "a1111" else with_spot(1)

    monkeypatch.setattr(command, "make_all", make_all)
    return path


def test_compare_prints_a_line_each_and_fails(file, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["golden", "compare", str(file)])
    with pytest.raises(SystemExit) as exit_status:
        command.main()
    assert exit_status.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a1111 euler: ok"
    assert lines[1].startswith("forge euler: differs: picture 1 by 1 at most")


def test_compare_can_be_narrowed(file, capsys):
    assert command.compare(file, ["a1111"]) == 0
    assert command.compare(file, ["forge eu"]) == 1
    assert "a1111" not in capsys.readouterr().out.splitlines()[-2]
    with pytest.raises(SystemExit, match="no common case"):
        command.compare(file, ["nothing like it"])


def test_a_file_is_read_as_it_was_written(tmp_path):
    kept = {("a1111", "euler a"): result(similarity=np.nan), ("forge", "ddim"): with_spot(3)}
    save(tmp_path / "kept", kept)
    machine, read = load(tmp_path / "kept")
    assert machine == comparing.describe_machine()
    assert read.keys() == kept.keys()
    assert all(find_differences(kept[key], read[key], EXACT) == [] for key in kept)


@pytest.mark.parametrize("other", [{"threads": 99}, {"torch": "2.1.0"}, {"cpu": "NO SUCH"}])
def test_another_machine_is_refused(file, monkeypatch, other):
    present = comparing.describe_machine()
    monkeypatch.setattr(comparing, "describe_machine", lambda: {**present, **other})
    with pytest.raises(SystemExit, match=r"was recorded with .*; this is .*"):
        command.compare(file, [])


def test_every_setting_of_the_cases_has_a_key_in_this_code():
    assert len(BY_NAME) == len(CASES) == 20
    for case in CASES:
        payload = payload_of(case, KNOWN)
        if case.identity is not None:
            (unit,) = payload["alwayson_scripts"]["BeyondFacial"]["args"]
            Settings.from_script_args(json.loads(json.dumps(unit)))
            assert len(unit) == len(case.identity)
    with pytest.raises(SystemExit, match=r"knows none of refine_head"):
        payload_of(BY_NAME["euler"], KNOWN - {"refine_head"})
