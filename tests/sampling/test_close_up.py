"""The prompt of a head's close-up: nothing that frames a body, one person, and all the rest as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.sampling.close_up import FRAMES, ONE_OF, close_up_prompt
from lib_beyondfacial.sampling.prompts import refine_prompts


@pytest.mark.parametrize(
    ("prompt", "others", "expected"),
    [
        ("photo of a man running in the city, full body shot", (), "photo of a man running in the city"),
        ("(full body:1.2), a man, wide shot, night", (), "a man, night"),
        ("a man, [wide shot], ((full-length portrait):1.1)", (), "a man"),
        ("Extreme wide shot, a king", (), "a king"),
        ("a man, <lora:full body:0.8>, upper body", (), "a man, <lora:full body:0.8>"),
        ("two men running, wide-angle view", (), "a man running"),
        ("Three Women in the rain", (), "a woman in the rain"),
        ("2girls, cowboy shot", (), "1girl"),
        ("full body", (), ""),
        ("a wide river and a long road to the city", (), "a wide river and a long road to the city"),
        ("a photo ,of a man,", (), "a photo ,of a man,"),
        ("two mentors, twenty two people's dogs", (), "two mentors, twenty a person's dogs"),
        ("photo of a man and a woman standing", ("woman",), "photo of a man standing"),
        ("photo of a man and a woman standing", ("man",), "photo of a woman standing"),
        ("a tall man and the short man, full body", ("tall man",), "the short man"),
        ("a man and a woman with red hair", ("woman",), "a man and a woman with red hair"),
        ("a man and a woman", ("", "elf (old)"), "a man and a woman"),
    ],
)
def test_close_up_prompts(prompt, others, expected):
    assert close_up_prompt(prompt, others) == expected


@given(st.text(), st.lists(st.text(max_size=8), max_size=3))
def test_any_text_is_survived_and_done_once(prompt, others):
    once = close_up_prompt(prompt, others)
    assert len(once) <= len(prompt)
    assert close_up_prompt(once) == once or "<" in prompt or "(" in prompt or "[" in prompt


@given(st.lists(st.sampled_from(["a man", "red hair", "in the city", "(night:1.2)", "[day|night]", "<lora:x:1>"])))
def test_a_prompt_without_these_words_is_untouched(parts):
    prompt = ", ".join(parts)
    assert close_up_prompt(prompt, ["woman"]) == prompt


@pytest.mark.parametrize("frame", FRAMES)
def test_every_frame_goes_with_shot_behind_it(frame):
    assert close_up_prompt(f"a man, {frame} shot, night") == "a man, night"


@pytest.mark.parametrize("many", ONE_OF)
def test_every_group_becomes_one_person(many):
    assert close_up_prompt(f"photo of two {many}") == f"photo of a {ONE_OF[many]}"


def test_refinement_asks_for_one_head():
    assert refine_prompts(["a man and a woman, full body"], list, ["woman"]) == ["close-up portrait, a man"]
