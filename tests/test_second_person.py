"""What the page asks about a second person, as the API's list of both."""

from __future__ import annotations

import pytest

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.settings import NONE, PAGE_FIELDS, PersonSettings, Settings

PHOTO = "aGVsbG8="


def page_settings(**values):
    return Settings.from_script_args(*(values.get(field.key) for field in PAGE_FIELDS))


def test_the_pages_second_person_makes_a_list_of_both():
    first = {"references": ["x"], "subject": "man", "weight": 0.8}
    made = page_settings(enabled=True, **first, person_2_identity="Anna", person_2_weight=1.0)
    assert [person.to_dict() for person in made.persons] == [
        PersonSettings(references=("x",), subject="man", weight=0.8).to_dict(),
        PersonSettings(identity="Anna").to_dict(),
    ]
    assert (made.references, made.subject) == ((), "")


@pytest.mark.parametrize("nothing", [{}, {"person_2_identity": NONE}, {"person_1_name": "Bob", "person_2_weight": 1}])
def test_a_second_person_that_is_not_set_is_nobody(nothing):
    assert page_settings(enabled=True, references=["x"], **nothing) == Settings(enabled=True, references=("x",))


@pytest.mark.parametrize("forgotten", [{"person_2_subject": "woman"}, {"person_2_weight": 0}])
def test_a_second_person_without_a_face_is_told(forgotten):
    with pytest.raises(BeyondFacialError, match="second person has no photos"):
        page_settings(enabled=True, references=["x"], **forgotten)
    page_settings(enabled=False, references=["x"], **forgotten)


def test_an_infotexts_persons_give_way_to_those_of_the_request():
    behind = [{"identity": "Anna", "person_2_identity": "Bob"}.get(field.key) for field in PAGE_FIELDS[1:]]
    both = Settings.from_script_args({"enabled": True}, *behind, is_api=True).persons
    assert [person.identity for person in both] == ["Anna", "Bob"]
    alone = Settings.from_script_args({"references": [PHOTO]}, *behind, is_api=True)
    assert (alone.persons, alone.identity) == ((), "")
