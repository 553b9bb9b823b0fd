"""The line's own prompts, the refinement's, and the words that the probe asks for."""

from __future__ import annotations

import pytest

from lib_beyondfacial.sampling.plan import IdentityLine
from lib_beyondfacial.sampling.prompts import line_prompts, order_in_prompt, refine_prompts, subject_words
from tests.sampling.conftest import LINE, make_person


def line_of(*genders: str | None, **given) -> IdentityLine:
    return IdentityLine(LINE, tuple(make_person(gender=gender) for gender in genders), (), **given)


def test_line_has_prompts_of_its_own_only_where_they_differ():
    prompts = ["a man", "a woman"]
    assert line_prompts(line_of("female"), prompts) is None
    assert line_prompts(line_of(None, follows_gender=True), prompts) is None
    assert line_prompts(line_of("female", follows_gender=True), ["a woman"]) is None
    assert line_prompts(line_of("female", follows_gender=True), prompts) == ["a woman", "a woman"]
    template = line_of("male", prompt="portrait of {prompt}", follows_gender=True)
    assert line_prompts(template, prompts) == ["portrait of a man", "portrait of a man"]


def test_each_picture_follows_its_own_persons_gender():
    assert line_prompts(line_of("female", "male", follows_gender=True), ["a man", "a man"]) == ["a woman", "a man"]


def test_refine_prompt_is_one_text_with_a_close_up_by_name():
    assert refine_prompts(["a man AND a forest :0.5", "king"], list) == [
        "close-up portrait, a man, a forest",
        "close-up portrait, king",
    ]


def test_refine_prompt_is_what_prompt_editing_ends_as():
    def at_end(texts):
        return [text.replace("[day:night:0.5]", "night") for text in texts]

    assert refine_prompts(["a man at [day:night:0.5] AND snow"], at_end) == ["close-up portrait, a man at night, snow"]


@pytest.mark.parametrize(
    ("subject", "prompts", "words"),
    [
        ("", ["a photo of a Man and a king", "a woman, a man"], ["man", "king", "woman"]),
        ("", ["a forest"], []),
        ("Elf, red cloak", ["a man"], ["elf", "red", "cloak"]),
    ],
)
def test_subject_words_are_the_users_or_the_prompts_person_words(subject, prompts, words):
    assert subject_words(subject, prompts) == words


@pytest.mark.parametrize(
    ("subjects", "prompt", "ranks"),
    [
        (["man", "woman"], "photo of a man and a woman in the city", [0, 1]),
        (["woman", "man"], "photo of a man and a woman in the city", [1, 0]),
        (["lady", "guy"], "a lady on the right and a guy on the left, in the woods", [1, 0]),
        (["man", "woman"], "a man and a woman, the man on the right, the woman on the left", [1, 0]),
        (["man", "woman"], "a man and a woman to his left", [1, 0]),
        (["tall man", "old woman"], "an old woman beside a tall man", [1, 0]),
        (["tall man", "short man"], "a short man on the left and a tall man on the right", [1, 0]),
        (["tall man", "short man"], "a short man and a tall man", [1, 0]),
        (["king", "man"], "a man waving", [1, 0]),
        (["", ""], "two men running to the left", [0, 1]),
        (["man"], "a man on the right", [0]),
        (["nobody", "man", "woman"], "a woman on the right, a man in the middle of the street", [1, 0, 2]),
    ],
)
def test_the_order_from_the_left_that_a_prompt_suggests(subjects, prompt, ranks):
    assert order_in_prompt(subjects, prompt) == ranks
