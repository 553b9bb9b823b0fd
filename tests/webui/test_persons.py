"""The setting "persons": what is refused with which sentence, what is warned of, and what comes back."""

from __future__ import annotations

import base64
import io

import jsonschema
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from lib_beyondfacial.settings import Settings

PLAIN = {"prompt": "photo of a man and a woman", "seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.fixture
def post(host):
    client = TestClient(host.app)

    def post(unit, **changes):
        body = {**PLAIN, **changes, "alwayson_scripts": {"BeyondFacial": {"args": [{"adapter": "fits", **unit}]}}}
        return client.post("/sdapi/v1/txt2img", json=body)

    return post


def refused(answer) -> str:
    assert answer.status_code == 422
    return answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([], '"persons" is empty'),
        ([{}] * 5, "one to 4 persons"),
        ([{"subject": "man"}, {"subject": "Man"}], 'the same "subject" ("man")'),
        ([{"subject": "man"}, {"subject": "knight"}], 'Person 2 of "persons": the prompt has no "knight"'),
        ([{"position": 1}, {"position": "1"}], 'the same "position" (1)'),
        ([{"position": 5}, {}], 'Person 1 of "persons": "position" is'),
        ([{"weight": 9}, {}], 'Person 1 of "persons": "weight" is 9'),
        ([{"hair": "red"}, {}], 'the nearest is "name"'),
        ([{"identity": "Anna"}], 'Person 1 of "persons": "references" and "identity" are given together'),
        ([{"references": []}], 'Person 1 of "persons": "references" is empty'),
        ([{"references": ["nonsense"]}], 'Person 1 of "persons": '),
        (["Anna"], "give an object"),
    ],
)
def test_wrong_persons_are_refused_with_a_sentence(post, photo, changes, sentence):
    persons = [{"references": [photo], **each} if isinstance(each, dict) else each for each in changes]
    assert sentence in refused(post({"persons": persons}))


@pytest.mark.parametrize("key", ["references", "identity", "subject"])
def test_the_short_form_beside_persons_is_refused(post, photo, key):
    value = [photo] if key == "references" else "man"
    assert f'"persons" and "{key}" are given together' in refused(
        post({"persons": [{"references": [photo]}], key: value})
    )


def test_one_adapter_serves_all(post, photo):
    assert '"adapter" is nothing that person 1' in refused(
        post({"persons": [{"references": [photo], "adapter": "x"}]})
    )


def test_two_persons_for_a_prompt_of_one_run_with_a_warning(post, photo, other_photo):
    unit = {"persons": [{"references": [photo]}, {"references": [other_photo]}], "start": 0.0}
    answer = post(unit, prompt="photo of a man")
    assert answer.status_code == 200, answer.text
    assert "2 persons are given, and the prompt names one" in answer.json()["info"]
    assert "persons are given" not in post(unit, prompt="photo of two men").json()["info"]


def test_the_start_identity_is_for_one_person(post, photo, other_photo):
    unit = {"persons": [{"references": [photo]}, {"references": [other_photo]}], "start": 0.0, "idap_strength": 0.5}
    assert "the start stays the host's" in post(unit).json()["info"]


def test_one_person_in_the_list_is_the_short_form(post, photo):
    one, whole = {"references": [photo], "subject": "man"}, {"start": 0.0, "mask_mode": "whole"}
    listed, short = (post({**unit, **whole}).json()["images"][0] for unit in ({"persons": [one]}, one))
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in (listed, short)]
    assert np.array_equal(*pictures)


def test_schema_and_round_trip():
    made = Settings.from_dict({"persons": [{"references": ["x"], "position": 2}, {"identity": "Anna"}], "weight": 0.5})
    assert [person.weight for person in made.persons] == [0.5, 0.5]
    assert Settings.from_dict(made.to_dict()) == made
    jsonschema.validate(made.to_dict(), Settings.json_schema())
    assert "Anna" not in str(made.to_infotext())
    assert "x" not in repr(made.persons[0])
    one, two = made.each_person()
    assert (one.references, two.identity, one.persons) == (("x",), "Anna", ())
