"""What the words of a prompt say about the person: one tokeniser for gender, subject words and advice."""

from __future__ import annotations

import pytest

from lib_beyondfacial.sampling.advice import advise
from lib_beyondfacial.sampling.gender import follow_gender, gender_in_prompt, gender_warning
from lib_beyondfacial.sampling.prompts import subject_words
from lib_beyondfacial.sampling.words import words_of
from lib_beyondfacial.settings import Settings


def test_extra_networks_are_no_words():
    assert [word.text for word in words_of("a man <lora:female_v2:1> <hypernet:girls:0.5>")] == ["a", "man"]
    assert gender_in_prompt("a man <lora:female_v2:1>") == "male"
    assert gender_warning("male", "portrait, <lora:female_v2:1>") is None


@pytest.mark.parametrize(
    ("prompt", "gender", "followed"),
    [
        ("1girl, solo", "male", "1boy, solo"),
        ("2girls, multiple_girls", "male", "2boys, multiple_boys"),
        ("1BOY and (men:1.2)", "female", "1GIRL and (women:1.2)"),
        ("Lady <lora:lady:1>", "male", "Gentleman <lora:lady:1>"),
    ],
)
def test_what_warns_can_be_followed(prompt, gender, followed):
    assert gender_warning(gender, prompt)
    assert follow_gender(prompt, gender) == followed
    assert gender_warning(gender, followed) is None


@pytest.mark.parametrize("gender", ["male", "female"])
@pytest.mark.parametrize("prompt", ["a man holding a girl's hand", "1boy and 1girl", "[man:woman:0.5]"])
def test_a_prompt_of_both_genders_stays_as_it_is(prompt, gender):
    assert follow_gender(prompt, gender) == prompt
    assert gender_warning(gender, prompt) is None


def test_danbooru_forms_are_subject_words():
    assert subject_words("", ["1girl, solo", "2boys <lora:knight:1>"]) == ["girl", "boys"]


def test_a_subject_that_the_prompt_lacks_is_named():
    (sentence,) = advise(Settings(subject="knight, man"), None, ["photo of a man"])
    assert '"knight"' in sentence
    assert '"man"' not in sentence
    assert advise(Settings(subject="knight"), None, ["a Knight on a horse"]) == []
    assert advise(Settings(subject="knight", id_prompt="{prompt}, a knight"), None, ["a rider"]) == []
    (sentence,) = advise(Settings(subject="12"), None, ["photo of a man"])
    assert '"12"' in sentence


def test_unknown_braces_are_named():
    (sentence,) = advise(Settings(id_prompt="{promt}, red hair"), None, ["photo of a man"])
    assert "{promt}" in sentence
    assert "{prompt}" in sentence
    assert advise(Settings(id_prompt="{prompt}, {red|blue} hair"), None, ["photo of a man"]) == []


@pytest.mark.parametrize("prompt", ["a castle at night", "", "<lora:woman:1> trees"])
def test_a_prompt_without_a_person_is_told(prompt):
    (sentence,) = advise(Settings(), None, [prompt])
    assert "names no person" in sentence
    assert "<lora" in sentence or "<" not in prompt


@pytest.mark.parametrize("prompt", ["1girl, solo", "a nurse", "portrait, oil on canvas", "two GENTLEMEN"])
def test_a_prompt_with_a_person_is_not_commented(prompt):
    assert advise(Settings(), None, [prompt]) == []


def test_each_prompt_of_a_request_is_read_by_itself():
    (sentence,) = advise(Settings(), "male", ["a man", "a woman", "a woman"])
    assert "female" in sentence
    assert advise(Settings(gender_alignment="off"), "male", ["a woman"]) == []
