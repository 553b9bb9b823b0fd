"""Settings: every way in gives a valid one or a sentence; dict and infotext round trips are exact."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.settings import (
    BY_KEY,
    FIELDS,
    MAX_EMBEDDING,
    MAX_REFERENCES,
    PAGE_FIELDS,
    PERSON_KEYS,
    PRESETS,
    UI_FIELDS,
    MethodParameters,
    Settings,
    preset_values,
)
from lib_beyondfacial.settings.fields import SECTIONS

PHOTO = "aGVsbG8="


def values_of(field):
    """A strategy for everything the field allows."""
    by_kind = {
        "bool": st.booleans,
        "float": lambda: st.floats(field.minimum, field.maximum, allow_nan=False),
        "int": lambda: st.integers(field.minimum, field.maximum),
        "choice": lambda: st.sampled_from(field.choices),
        "photos": lambda: st.lists(st.text(max_size=20), max_size=MAX_REFERENCES),
        "embedding": lambda: st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode()),
        "text": texts,
        "persons": lambda: st.lists(
            st.fixed_dictionaries({}, optional={item.key: values_of(item) for item in field.items}), max_size=4
        ),
    }
    return by_kind[field.kind]()


def texts():
    """Texts that infotexts might not carry."""
    awkward = st.sampled_from(
        ['"x"', '"', "5x7", "[1]", '["a"]', "a, b: c", "BeyondFacial subject", "{prompt}, close", "a\nb"]
    )
    plain = st.text(" ,:;\"'\\[]x1{}ab", max_size=30)
    return (
        awkward
        | plain
        | st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t"), max_size=12)
    )


VALID = st.fixed_dictionaries({}, optional={field.key: values_of(field) for field in FIELDS})


@st.composite
def settings(draw):
    """Any valid Settings: an accepted draw of some of the fields, the rest at their defaults."""
    values = draw(VALID)
    start, stop = values.get("start", BY_KEY["start"].default), values.get("stop", 1.0)
    if not start < stop:
        values |= {"start": min(start, stop) * 0.5, "stop": 1.0}
    return Settings.from_dict(values)


def through_a_host(parameters):
    """What a host makes of our infotext entries: writes "key: value, ...", quoting as JSON what holds , : or a line
    break, and reads it back, splitting "NxM" and unquoting what stands in quotes (docs/hosts/a1111.md)."""
    pieces = []
    for key, value in parameters.items():
        assert value != "", "hosts cannot read an empty value"
        quoted = json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value
        pieces.append(key if key == value else f"{key}: {quoted}")
    line = "Steps: 20, Sampler: Euler, " + ", ".join([*pieces, "Version: v1"])
    assert "\n" not in line
    read = {}
    while line:
        key, line = line.split(":", 1)
        line = line.lstrip()
        in_quotes = re.match(r'"([^"\\]|\\.)+"(?=,|$)', line)
        value = in_quotes.group() if in_quotes else line.split(",", 1)[0]
        line = line[len(value) + 1 :]
        text = json.loads(value) if len(value) > 1 and value[0] == value[-1] == '"' else value
        size = re.match(r"^(\d+)x(\d+)$", text)
        read |= {f"{key.strip()}-1": size[1], f"{key.strip()}-2": size[2]} if size else {key.strip(): text}
    return read


@given(settings())
def test_dict_round_trip_is_exact(made):
    assert Settings.from_dict(made.to_dict()) == made
    assert Settings.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert set(made.to_dict()) == set(BY_KEY) - (set() if made.persons else {"persons"})


@given(settings())
@example(Settings(subject='"quoted"', adapter="512x512", id_prompt='["x"]', face_pack="BeyondFacial face pack"))
@example(Settings(subject='"open', id_prompt='{prompt}, "a: b"', adapter="[brackets], more"))
def test_infotext_round_trip_is_exact(made):
    name = made.identity if made.identity_in_infotext else ""
    written = dataclasses.replace(made, references=(), identity=name, embedding="", persons=())
    assert Settings.from_infotext(made.to_infotext()) == written
    assert Settings.from_infotext(through_a_host(made.to_infotext())) == written


@given(settings())
def test_page_arguments_and_api_dict_mean_the_same(made):
    sources = sum(bool(getattr(made, key)) for key in PERSON_KEYS)
    if made.enabled and (made.persons or sources != (made.source == "photos")):
        made = dataclasses.replace(made, enabled=False)
    assert Settings.from_script_args(made.to_dict()) == made
    made = dataclasses.replace(made, embedding="", persons=(), enabled=made.enabled and not made.embedding)
    assert Settings.from_script_args(*(getattr(made, field.key) for field in UI_FIELDS)) == made


def test_infotext_never_holds_a_photo():
    assert PHOTO not in str(Settings(references=(PHOTO,)).to_infotext())


def test_infotext_holds_a_saved_name_only_when_asked():
    assert "Anna" not in str(Settings(identity="Anna").to_infotext())
    assert "Anna" in str(Settings(identity="Anna", identity_in_infotext=True).to_infotext())


def test_photos_and_a_saved_identity_at_once_are_refused():
    with pytest.raises(
        BeyondFacialError, match='"references" and "identity" are given together.*"Anna".*give one of them'
    ):
        Settings.from_script_args({"references": [PHOTO], "identity": "Anna"})
    assert Settings.from_script_args({"identity": "Anna"}).enabled


def test_repr_and_infotext_never_hold_a_face():
    made = Settings(references=(PHOTO,), embedding="ZmFjZQ==")
    assert not any(face in f"{made!r}{made.to_infotext()}" for face in (PHOTO, "ZmFjZQ=="))
    assert "1 photos" in repr(made)


BAD_VALUES = [
    ("weight", 99, "from 0 to 3"),
    ("weight", -0.001, "from 0 to 3"),
    ("weight", math.nan, "nan"),
    ("weight", math.inf, "inf"),
    ("weight", "2.0", "'2.0'"),
    ("weight", True, "a number"),
    ("weight", None, "None"),
    ("weight", 10**400, "from 0 to 3"),
    ("smoothing", 1.0, "from 0 to 0.99"),
    ("stride", 0, "from 1 to 8"),
    ("stride", 1.5, "a whole number"),
    ("enabled", 1, "true or false"),
    ("show_mask", "yes", "true or false"),
    ("mask_mode", "Adaptive", '"adaptive", "whole"'),
    ("mask_mode", ["adaptive"], '"adaptive", "whole"'),
    ("adapter", 3, "text"),
    ("adapter", "x" * 2001, "at most 2000"),
    ("subject", "a\x00b", "text"),
    ("subject", "\ud800", "text"),
    ("references", PHOTO, "a str"),
    ("references", {"a": 1}, "a dict"),
    ("references", [PHOTO] * 17, "a list of 17"),
    ("embedding", "no base64!", "a text of 10 letters"),
    ("embedding", "A" * (MAX_EMBEDDING + 1), f"a text of {MAX_EMBEDDING + 1} letters"),
    ("embedding", b"AAAA", "exported identity"),
]


@pytest.mark.parametrize(("key", "value", "expected"), BAD_VALUES, ids=lambda part: str(part)[:20])
def test_bad_values_are_refused_by_name(key, value, expected):
    with pytest.raises(BeyondFacialError) as caught:
        Settings.from_script_args({"references": [PHOTO], key: value})
    sentence = str(caught.value)
    assert f'"{key}"' in sentence
    assert expected in sentence
    assert BY_KEY[key].describe_range() in sentence
    assert PHOTO not in sentence
    assert len(sentence) < 300
    assert sentence.endswith(".")


@given(st.sampled_from([field for field in FIELDS if field.kind in ("float", "int")]), st.floats() | st.integers())
def test_numbers_out_of_range_never_pass(field, value):
    inside = field.minimum <= value <= field.maximum and (field.kind == "float" or float(value).is_integer())
    window = {"start": {"stop": 1.0}, "stop": {"start": 0.0}}.get(field.key, {})
    inside = inside and {"start": value < 1, "stop": value > 0}.get(field.key, True)
    with contextlib.nullcontext() if inside else pytest.raises(BeyondFacialError):
        assert getattr(Settings.from_dict({field.key: value, **window}), field.key) == value


@pytest.mark.parametrize(
    ("key", "nearest"), [("wieght", "weight"), ("reference", "references"), ("maskStrength", "mask_strength")]
)
def test_unknown_key_names_the_nearest(key, nearest):
    with pytest.raises(BeyondFacialError, match=f'"{key}" is not a setting.*nearest is "{nearest}"'):
        Settings.from_script_args({"enabled": True, "references": [PHOTO], key: 1})


def test_start_must_come_before_stop():
    with pytest.raises(BeyondFacialError, match='"start" is 0.5 and "stop" is 0.5'):
        Settings(start=0.5, stop=0.5)


@pytest.mark.parametrize(
    "args",
    [({"enabled": True},), ({"enabled": True, "references": []},), ({"weight": 1.0},)],
)
def test_enabled_without_photos_is_refused(args):
    with pytest.raises(BeyondFacialError, match='"references" is empty'):
        Settings.from_script_args(*args)


@pytest.mark.parametrize("args", [(True, None), (True, [])])
def test_on_the_page_the_sentence_says_what_to_do_there(args):
    with pytest.raises(BeyondFacialError, match="nobody is given: drop a photo"):
        Settings.from_script_args(*args)


def test_dict_without_enabled_is_on():
    assert Settings.from_script_args({"references": [PHOTO]}).enabled


@pytest.mark.parametrize(
    "args",
    [(), ({},), (False,), ({"enabled": False, "weight": 1.5},), (False, None, "", "", 2.0), ({}, None, "", "", 2.0)],
)
def test_off_needs_nothing(args):
    assert not Settings.from_script_args(*args).enabled


def test_two_dicts_and_surplus_values_are_refused():
    with pytest.raises(BeyondFacialError, match="more than one object"):
        Settings.from_script_args({"references": [PHOTO]}, {"references": [PHOTO]})
    with pytest.raises(BeyondFacialError, match=f"takes {len(PAGE_FIELDS)}"):
        Settings.from_script_args(*[None] * (len(PAGE_FIELDS) + 1))


def test_schema_states_the_table():
    schema = Settings.json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == list(BY_KEY)
    assert schema["properties"]["weight"] == {
        "type": "number",
        "title": "Likeness",
        "description": BY_KEY["weight"].help,
        "minimum": 0,
        "maximum": 3,
        "default": 1.0,
    }


@given(settings())
def test_what_settings_accept_the_schema_accepts(made):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(made.to_dict(), Settings.json_schema())


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().weight = 1.0


def test_defaults_have_their_annotations_type():
    annotated = {each.name: each.type.split("[")[0] for each in dataclasses.fields(Settings)}
    assert annotated == {field.key: type(field.default).__name__ for field in FIELDS}


def test_fields_stand_by_section():
    assert [field.key for field in UI_FIELDS[:5]] == ["enabled", "references", "identity", "adapter", "weight"]
    sections = [section for section, _ in itertools.groupby(field.section for field in FIELDS)]
    assert tuple(sections) == SECTIONS


def test_settings_serve_as_method_parameters():
    assert isinstance(Settings(), MethodParameters)
    assert dataclasses.asdict(MethodParameters()).items() <= Settings().to_dict().items()
    assert preset_values({}) == dataclasses.asdict(MethodParameters())


def test_every_preset_is_made_of_method_parameters():
    assert all(preset_values(changes).keys() == preset_values({}).keys() for changes in PRESETS.values())


@pytest.mark.parametrize("changes", [{"identity": "Anna"}, {"weigth": 1}, {"weight": 9}, {"refine_head": "yes"}])
def test_presets_refuse_what_is_not_theirs(changes):
    with pytest.raises(BeyondFacialError):
        preset_values(changes)
