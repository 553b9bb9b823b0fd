"""Request bodies of our own routes: what is read, what is checked; nothing but a sentence comes of nonsense."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.webui import bodies

KEYS = [field.key for field in bodies.SAVE_FIELDS]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(KEYS), inner),
)


def outcome(body, table):
    """The checked values, or the sentence."""
    try:
        return bodies.parse_body(body, table)
    except BeyondFacialError as error:
        return str(error)


@given(ANY_JSON | st.dictionaries(st.sampled_from(KEYS), ANY_JSON))
def test_any_json_gives_checked_values_or_one_sentence(value):
    got = outcome(json.dumps(value).encode(), bodies.SAVE_FIELDS)
    if isinstance(got, str):
        assert got.encode()  # an answer can carry it
        assert len(got) < 1000
    else:
        assert list(got) == KEYS
        assert isinstance(got["name"], str)
        assert isinstance(got["keep_crops"], bool)
        assert 1 <= got["face_index"] <= 20


@given(st.binary())
def test_any_bytes_give_a_sentence_or_an_object(body):
    got = outcome(body, bodies.CHECK_FIELDS)
    assert isinstance(got, dict) or got.endswith(".")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"face_index": ' + b"9" * 5000 + b"}", "no JSON|face_index"),
        (b'"\xff"', "no JSON"),
        (b"[1]", "a JSON list"),
        (b"null", "a JSON null"),
        (b"true", "a JSON truth value"),
        (b'{"face_index": 21}', '"face_index" is 21; it must be a whole number from 1 to 20'),
        (b'{"face_index": NaN}', '"face_index" is nan'),
        (b'{"referenses": []}', '"referenses".*"references"'),
        (b'{"\\ud800": 1}', "is not known here"),
        (b'{"references": "x"}', '"references" is a str'),
    ],
)
def test_what_is_wrong_is_named(body, expected):
    with pytest.raises(BeyondFacialError, match=expected) as caught:
        bodies.parse_body(body, bodies.CHECK_FIELDS)
    assert str(caught.value).encode()


def ask(chunks, **headers):
    """read_body of a request whose body comes in these chunks; also says how many were taken."""
    rest = list(chunks)

    async def receive():
        return {"type": "http.request", "body": rest.pop(0), "more_body": bool(rest)}

    names = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "headers": names}, receive)
    # in a thread: the browser tests keep a loop running in this one
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, bodies.read_body(request)).result(), len(rest)


def test_a_body_is_read_whole():
    assert ask([b'{"a"', b": 1}"], content_type="application/json; charset=utf-8") == (b'{"a": 1}', 0)


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data"])
def test_other_sites_pages_cannot_send_what_is_read(kind):
    with pytest.raises(BeyondFacialError, match="application/json"):
        ask([b"{}"], content_type=kind)


def test_a_body_that_is_too_large_is_not_read(monkeypatch):
    with pytest.raises(bodies.TooLargeError, match="larger than 225 MB"):
        ask([], content_type="application/json", content_length=str(bodies.MAX_BODY + 1))
    monkeypatch.setattr(bodies, "MAX_BODY", 1_000_000)
    endless = [b" " * 600_000] * 50
    with pytest.raises(bodies.TooLargeError, match="larger than 1 MB"):
        ask(endless, content_type="application/json")


def test_the_schemas_are_of_the_same_table():
    faces, saved = bodies.schema_of("faces"), bodies.schema_of("identities")
    assert list(saved["properties"]) == KEYS
    assert saved["required"] == ["name"]
    assert faces["required"] == ["references"]
    assert faces["properties"]["references"]["maxItems"] == 16
    with pytest.raises(bodies.UnknownSchemaError, match="faces and identities"):
        bodies.schema_of("nothing")
