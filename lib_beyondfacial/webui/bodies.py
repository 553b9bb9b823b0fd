"""Bodies of our POST routes: JSON objects, checked against tables of Fields like the settings."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import Request

from ..errors import BeyondFacialError, printable
from ..faces.photos import MAX_BYTES
from ..settings import (
    BY_KEY,
    MAX_REFERENCES,
    Field,
    Settings,
    check_value,
    fields_to_schema,
    nearest_key,
    text_to_value,
)
from .bounded_json import BoundsError, parse_json

MAX_BODY = int(MAX_REFERENCES * MAX_BYTES * 4 / 3 * 1.05) + 1_000_000  # the most photos, each the largest, as base64
MAX_BODIES = 2 * MAX_BODY  # bytes of all bodies together that are being received or wait for a thread

CHECK_FIELDS = tuple(
    BY_KEY[key] for key in ("references", "face_pack", "adapter", "adapter_family", "face_choice", "face_index")
)
QUERY_KEYS = ("adapter", "adapter_family", "keep_crops", "head_crop")
NAME = Field("name", "", "Name", "Of the saved identity.")
RENAME_TO = Field("rename_to", "", "New name", "Instead of photos: the saved identity's new name.")
KEEP_CROPS = Field("keep_crops", False, "Keep face crops", "So that another face pack can be used later.")
OVERWRITE = Field("overwrite", False, "Overwrite", "Replace the saved identity of that name.")
HEAD_CROP = Field("head_crop", True, "Head crop", "The head as a small picture, which the start identity needs.")
EXPORT_FIELDS = (*CHECK_FIELDS, KEEP_CROPS, HEAD_CROP)
EXPORT_OPTIONS = tuple(field for field in EXPORT_FIELDS if field.key in QUERY_KEYS)
SAVE_FIELDS = (NAME, RENAME_TO, *CHECK_FIELDS, KEEP_CROPS, OVERWRITE)


class Body(bytearray):
    """The bytes of one request; parsing empties it. A subclass, because weak references to it are counted."""


_bodies: weakref.WeakValueDictionary[int, Body] = weakref.WeakValueDictionary()  # by id


class UnknownSchemaError(BeyondFacialError):
    """No POST route has this name."""


class TooLargeError(BeyondFacialError):
    """A request body that is too large; it is not read to its end."""


class BusyError(BeyondFacialError):
    """The bodies received at the same time are too large together."""


def schema_of(route: str) -> dict[str, Any]:
    """The JSON Schema of a POST route's body; route: the last part of its path."""
    schemas = {
        "faces": fields_to_schema("BeyondFacial face check", CHECK_FIELDS, ["references"]),
        "identities": fields_to_schema("BeyondFacial saved identity", SAVE_FIELDS, ["name"]),
        "identities/export": fields_to_schema("BeyondFacial exported identity", EXPORT_FIELDS, ["references"]),
        "validate": Settings.json_schema(),
    }
    if route not in schemas:
        raise UnknownSchemaError(f'There is no schema "{printable(route)}"; there are {" and ".join(schemas)}.')
    return schemas[route]


async def read_body(request: Request) -> Body:
    """Receive a body; BeyondFacialError unless its header says JSON and it is no larger than 16 of the largest photos.

    The header is required because a browser does not let pages of other sites send it without a preflight request.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise BeyondFacialError('The request is not JSON; send it with the header "Content-Type: application/json".')
    announced = request.headers.get("content-length", "")
    body = Body()
    _bodies[id(body)] = body
    if not (announced.isdecimal() and int(announced[:20]) > MAX_BODY):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                break
            if sum(len(each() or b"") for each in _bodies.valuerefs()) > MAX_BODIES:
                raise BusyError("Too many photos are being sent at once; try again in a moment.")
        else:
            return body
    raise TooLargeError(f"The request is larger than {MAX_BODY // 1_000_000} MB; send fewer or smaller photos.")


def parse_body(body: bytes | bytearray, table: Sequence[Field]) -> dict[str, Any]:
    """Parse a body into all fields of the table, with defaults; BeyondFacialError names the wrong field.

    A bytearray is empty afterwards.
    """
    given = parse_object(body)
    known = {field.key: field for field in table}
    for key in given:
        if key not in known:
            raise BeyondFacialError(unknown_key(key, known))
    return {key: check_value(field, given.get(key, field.default)) for key, field in known.items()}


def parse_query(query: Mapping[str, str], table: Sequence[Field]) -> dict[str, Any]:
    """The same of a URL's query, whose values are texts."""
    known = {field.key: field for field in table}
    for key in query:
        if key not in known:
            raise BeyondFacialError(unknown_key(key, known))
    given = {key: text_to_value(known[key], text) for key, text in query.items()}
    return {key: check_value(field, given.get(key, field.default)) for key, field in known.items()}


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """The body's JSON object, unchecked but for its bounds; a bytearray is empty afterwards."""
    try:
        given = parse_json(body if isinstance(body, bytearray) else bytearray(body))
    except BoundsError as error:
        raise BeyondFacialError(f"The request is no JSON that can be read ({error}); send one object.") from None
    except (ValueError, RecursionError):  # not JSON, or not text
        raise BeyondFacialError("The request is no JSON that can be read; send one object.") from None
    if not isinstance(given, dict):
        raise BeyondFacialError(f"The request is a JSON {_kind(given)}; send one object.")
    return given


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say of a key that there is not."""
    return (
        f'"{printable(key)}" is not known here; the nearest is "{nearest_key(key, known)}" (all: {", ".join(known)}).'
    )


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "text", bool: "truth value", type(None): "null"}
    return kinds.get(type(value), "number")
