"""The photo's gender against the prompt's generic person words."""

from __future__ import annotations

import pytest

from lib_beyondfacial.sampling.advice import advise
from lib_beyondfacial.sampling.gender import follow_gender, gender_in_prompt, gender_warning
from lib_beyondfacial.settings import Settings


@pytest.mark.parametrize(
    ("prompt", "gender"),
    [
        ("photo of a man running", "male"),
        ("A WOMAN, full body", "female"),
        ("two girls", "female"),
        ("a man and a woman", None),
        ("a person in the snow", None),
        ("a mandarin tree, womanly", None),
        ("(lady:1.2) at sea", "female"),
    ],
)
def test_gender_in_prompt_is_that_of_its_generic_words(prompt, gender):
    assert gender_in_prompt(prompt) == gender


@pytest.mark.parametrize(
    ("prompt", "gender", "followed"),
    [
        ("photo of a man running", "female", "photo of a woman running"),
        ("Woman, GIRL, girls; a (gal:1.2)", "male", "Man, BOY, boys; a (guy:1.2)"),
        ("a king and his men, mandarin", "female", "a king and his women, mandarin"),
        ("a person", "female", "a person"),
    ],
)
def test_follow_gender_changes_generic_words_only(prompt, gender, followed):
    assert follow_gender(prompt, gender) == followed
    assert follow_gender(followed, gender) == followed


def test_gender_warning_names_both_and_what_to_do():
    warning = gender_warning("female", "a man")
    assert "female face" in warning
    assert "words say male" in warning
    assert '"gender_alignment"' in warning


@pytest.mark.parametrize(("gender", "prompt"), [(None, "a man"), ("male", "a man"), ("male", "a person"), ("", "man")])
def test_no_gender_warning_where_nothing_disagrees(gender, prompt):
    assert gender_warning(gender, prompt) is None


@pytest.mark.parametrize(("alignment", "warns"), [("warn", True), ("follow photo", False), ("off", False)])
def test_gender_is_warned_of_only_where_the_setting_says_so(alignment, warns):
    assert bool(advise(Settings(gender_alignment=alignment), "female", ["a man"])) is warns


def test_of_several_persons_the_warning_says_which():
    (warning,) = advise(Settings(), "female", ["two men"], "Eve")
    assert "in the photos of Eve," in warning
