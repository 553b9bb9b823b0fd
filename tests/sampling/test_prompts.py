"""The identity line's own prompts, and the photo's gender against the prompt's."""

from __future__ import annotations

import pytest

from lib_beyondfacial.hosts.words import follow_gender, gender_warning, identity_prompts, told_gender
from lib_beyondfacial.settings import Settings

FOLLOW = Settings(gender_alignment="follow photo")


@pytest.mark.parametrize(
    ("prompt", "told"),
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
def test_a_prompts_gender_is_that_of_its_generic_words(prompt, told):
    assert told_gender(prompt) == told


@pytest.mark.parametrize(
    ("prompt", "gender", "followed"),
    [
        ("photo of a man running", "female", "photo of a woman running"),
        ("Woman, MAN, girls; a (guy:1.2)", "male", "Man, MAN, boys; a (guy:1.2)"),
        ("a king and his men, mandarin", "female", "a king and his women, mandarin"),
        ("a person", "female", "a person"),
    ],
)
def test_only_generic_words_follow_the_photo(prompt, gender, followed):
    assert follow_gender(prompt, gender) == followed
    assert follow_gender(followed, gender) == followed


def test_the_identity_line_has_prompts_of_its_own_only_where_they_differ():
    prompts = ["a man", "a woman"]
    assert identity_prompts(Settings(), "female", prompts) is None
    assert identity_prompts(FOLLOW, None, prompts) is None
    assert identity_prompts(FOLLOW, "female", ["a woman"]) is None
    assert identity_prompts(FOLLOW, "female", prompts) == ["a woman", "a woman"]
    template = Settings(id_prompt="portrait of {prompt}", gender_alignment="follow photo")
    assert identity_prompts(template, "male", prompts) == ["portrait of a man", "portrait of a man"]


def test_the_warning_names_both_and_says_what_to_do():
    warning = gender_warning(Settings(), "female", "a man")
    assert "female face" in warning
    assert "words say male" in warning
    assert '"gender_alignment"' in warning
    for settings, gender, prompt in (
        (Settings(gender_alignment="off"), "female", "a man"),
        (FOLLOW, "female", "a man"),
        (Settings(), None, "a man"),
        (Settings(), "male", "a man"),
        (Settings(), "male", "a person"),
    ):
        assert gender_warning(settings, gender, prompt) is None
