"""What a picture lacks: every way of it, and how it is told."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.sampling.plan import PERSON, IdentityLine, Plan
from lib_beyondfacial.sampling.report import Batch, Report
from lib_beyondfacial.sampling.shortfalls import NOT_ACTED, NOT_REFINED, Shortfall, find_shortfall
from lib_beyondfacial.settings import Settings

ACTED = {"steps": 4, "in_window": True, "had_guidance": True, "acted": torch.tensor([True, False])}


def plan(**settings):
    checked = Settings(**settings)
    return Plan(checked, (IdentityLine(PERSON, (), (), weight=checked.weight),), lambda image: [])


def lack(batch, image=0, is_interrupted=False, **settings):
    return find_shortfall(plan(**{"refine_head": False, **settings}), Batch(**batch), image, is_interrupted)


@pytest.mark.parametrize(
    ("batch", "settings", "expected"),
    [
        ({}, {}, "took the sampling over"),
        ({"steps": 4, "in_window": True}, {}, "took the sampling over"),
        ({"steps": 4}, {"start": 0.96}, '"start" 0.96 to "stop" 1 holds none of the 4'),
        ({**ACTED, "had_guidance": False, "acted": torch.tensor([False])}, {}, "CFG scale of 0"),
        ({**ACTED, "acted": torch.tensor([False])}, {}, "No head was found"),
        ({}, {"weight": 0}, '"weight" is 0'),
        ({}, {"mask_strength": 0}, '"mask_strength" is 0'),
        ({**ACTED, "acted": torch.tensor([False])}, {"rho": 0}, '"rho" is 0'),
    ],
)
def test_why_the_identity_never_acted(batch, settings, expected):
    found = lack(batch, **settings)
    assert found.note == NOT_ACTED
    assert expected in found.sentence


def test_what_is_explained_already_is_noted_only():
    report = Report()
    report.begin_pass(is_later=False)
    report.warn_not_acting("A tiler is on.")
    assert find_shortfall(plan(), report.batch, 0) == Shortfall(NOT_ACTED)
    report.begin_pass(is_later=True)
    assert report.batch.explained
    report.begin_pass(is_later=False)
    assert not report.batch.explained


def test_interrupting_is_no_fault_of_the_settings():
    assert "interrupted" in lack({}, is_interrupted=True).sentence
    assert lack(ACTED, is_interrupted=True, refine_head=True) is None


def test_pictures_of_a_batch_are_judged_apart():
    assert lack(ACTED, image=0) is None
    assert "{pictures}" in lack(ACTED, image=1).sentence


def test_a_refinement_that_did_not_take_place():
    for batch, settings, expected in (
        (ACTED, {}, "late enough|below noise level"),
        ({**ACTED, "looked_for_heads": True, "heads_found": {PERSON: (False, True)}}, {}, "No face could be found"),
        (ACTED, {"mask_mode": "whole"}, '"mask_mode" whole'),
    ):
        found = lack(batch, refine_head=True, **settings)
        assert found.note == NOT_REFINED
        assert any(each in found.sentence for each in expected.split("|"))
    assert lack({**ACTED, "looked_for_heads": True}, refine_head=True) == Shortfall(NOT_REFINED)
    assert lack({**ACTED, "looked_for_heads": True, "heads_found": {PERSON: (True,)}}, refine_head=True) is None


def test_pictures_are_named_in_good_english():
    found = Shortfall(NOT_REFINED, "While {pictures} {were} made, {their_heads} small.")
    assert found.tell([0], 1) == "While the picture was made, its head was small."
    assert found.tell([1], 3) == "While picture 2 of 3 was made, its head was small."
    assert found.tell([0, 2], 4) == "While pictures 1 and 3 of 4 were made, their heads were small."
    assert found.tell([0, 1, 2], 3) == "While pictures 1, 2 and 3 of 3 were made, their heads were small."


def test_levels_of_all_passes_count():
    batch = Batch()
    batch.note_level(torch.zeros(2, 4, 8, 8), 7.0)
    assert not batch.acted_on(0)
    changed = torch.zeros(2, 4, 8, 8)
    changed[1, 0, 0, 0] = 1
    batch.note_level(changed, 0.0)
    assert not batch.acted_on(1)  # CFG 0
    batch.note_level(changed, 1.0)
    batch.note_level(torch.zeros(2, 4, 8, 8), 7.0)
    assert [batch.acted_on(i) for i in range(3)] == [False, True, False]
    batch.note_heads({PERSON: (False, True)})
    batch.note_heads({PERSON: (True, False)})
    batch.note_heads({})
    assert [batch.found_head(PERSON, i) for i in range(3)] == [True, True, False]


def test_a_person_without_a_face_is_named():
    labels = ('"Anna {x}"', "person 2")
    lines = tuple(IdentityLine(f"person {k}", (), (), label=label) for k, label in enumerate(labels, 1))
    batch = Batch(**ACTED, looked_for_heads=True, heads_found={"person 1": (False,), "person 2": (True,)})
    found = find_shortfall(Plan(Settings(), lines, lambda image: []), batch, 0)
    assert found.note == "no face for person 1"
    assert found.tell([0], 2) == (
        'Only 1 of 2 people was found in picture 1 of 2, so "Anna {x}" is missing; try another seed or a wider '
        'picture, or begin the prompt with "two people".'
    )
