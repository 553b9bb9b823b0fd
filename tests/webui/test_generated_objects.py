"""Generated objects to our endpoints and as the unit of a request, from what the schemas say and near misses of it:
1000 in all, no answer of 500 and more, and nothing left behind.

What a schemathesis run would send, made with hypothesis: values that each schema allows, values beyond its limits,
other types, unknown keys and missing ones.
"""

from __future__ import annotations

import base64

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.miniwebui import shared
from lib_beyondfacial.webui import bodies
from tests.webui.test_requests import PLAIN, pixels, with_args

ROOT = "/beyondfacial/v1"
ROUTES = ("faces", "validate", "identities", "identities/export")
LIMITS = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": False}
UNIT = {"steps": 1, "width": 64, "height": 64}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def values_of(schema, photo, embedding):
    """Values that a property's schema allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "array":
        return st.lists(st.sampled_from([photo, photo, photo, "", "AAAA"]), max_size=3)
    if schema.get("contentEncoding") == "base64":
        damaged = embedding[:1000] + "AAAA" + embedding[1004:]
        return st.sampled_from(["", embedding, embedding[:-4], damaged, base64.b64encode(b"x" * 99).decode()])
    by_type = {
        "boolean": st.booleans(),
        "integer": st.integers(schema.get("minimum", 0), schema.get("maximum", 1)),
        "number": st.floats(schema.get("minimum", 0), schema.get("maximum", 1), allow_nan=False),
        "string": st.sampled_from(["", "", "fits", "Anna", "squares", "a man"]) | st.text(max_size=10),
    }
    return by_type[schema["type"]]


def near_misses(schema):
    """Values just beyond a property's limits, and of other types."""
    limits = [schema[key] + step for key, step in (("minimum", -1), ("maximum", 1)) if key in schema]
    return st.sampled_from([*limits, None, True, 10**30, "x", [], {}]) | JSON


@st.composite
def objects(draw, schema, photo, embedding):
    """An object that the schema allows, of which up to two parts are changed to what it may not."""
    properties = schema["properties"]
    keys = draw(st.lists(st.sampled_from(sorted(properties)), unique=True, max_size=5))
    made = {key: draw(values_of(properties[key], photo, embedding)) for key in keys}
    if draw(st.booleans()):
        made |= {"references": [photo], "adapter": "fits"} if "adapter" in properties else {}
    for key in draw(st.lists(st.sampled_from([*sorted(properties), "referenses"]), max_size=2)):
        if draw(st.booleans()):
            made[key] = draw(near_misses(properties.get(key, {})))
    return made


@pytest.fixture(scope="module")
def client(host, tmp_path_factory):
    flags, before = shared.cmd_opts, getattr(shared.cmd_opts, "beyondfacial_models_dir", None)
    flags.beyondfacial_models_dir = str(tmp_path_factory.mktemp("models"))
    yield TestClient(host.app, raise_server_exceptions=False)
    flags.beyondfacial_models_dir = before


@pytest.fixture(scope="module")
def embedding(client, photo):
    answer = client.post(f"{ROOT}/identities/export", json={"references": [photo], "adapter": "fits"})
    return answer.json()["embedding"]


def test_generated_objects_short(client, photo, embedding):
    send_all(client, photo, embedding, 12)


@pytest.mark.slow
def test_generated_objects(client, photo, embedding):
    send_all(client, photo, embedding, 200)


def send_all(client, photo, embedding, count):
    """`count` objects to each of the routes, and as many as the unit of a request."""
    plain = client.post("/sdapi/v1/txt2img", json=PLAIN)
    statuses, before = set(), (count_hooks(), dict(shared.opts.data))

    def send(path, body):
        answer = client.post(path, json=body)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            detail = answer.json()["detail"]
            assert isinstance(detail, str)
            assert photo[:40] not in detail
        statuses.add((path, answer.status_code))

    for path in [*(f"{ROOT}/{route}" for route in ROUTES), "/sdapi/v1/txt2img"]:
        schema = bodies.schema_of(path.removeprefix(f"{ROOT}/") if path.startswith(ROOT) else "validate")
        send_to(path, objects(schema, photo, embedding), send, count)
    assert {(f"{ROOT}/validate", 200), (f"{ROOT}/faces", 200), (f"{ROOT}/faces", 422)} <= statuses
    assert {("/sdapi/v1/txt2img", 200), ("/sdapi/v1/txt2img", 422)} <= statuses
    assert pixels(client.post("/sdapi/v1/txt2img", json=PLAIN)) == pixels(plain)
    assert (count_hooks(), dict(shared.opts.data)) == before


def count_hooks():
    """What is hung on the model's modules."""
    modules = shared.sd_model.modules()
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def send_to(path, made, send, count):
    """`count` generated objects to one path; to the host's own as the unit of a small request."""

    @settings(max_examples=count, **LIMITS)
    @given(made)
    def post(body):
        send(path, body if path.startswith(ROOT) else {**with_args(body), **UNIT})

    post()
