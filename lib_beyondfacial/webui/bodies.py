"""What the routes of our own take: JSON objects, checked against the same kind of table as the settings."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from fastapi import Request

from ..errors import BeyondFacialError, printable
from ..faces.photos import MAX_BYTES
from ..settings import BY_KEY, MAX_REFERENCES, Field, check_value, fields_to_schema, nearest_key
from .bounded_json import BoundsError, parse_json

MAX_BODY = int(MAX_REFERENCES * MAX_BYTES * 4 / 3 * 1.05) + 1_000_000  # the most photos, each the largest, as base64
MAX_BODIES = 2 * MAX_BODY  # of all bodies that are being sent or wait for a thread, together

CHECK_FIELDS = tuple(
    BY_KEY[key] for key in ("references", "face_pack", "adapter", "adapter_family", "face_choice", "face_index")
)
NAME = Field("name", "", "Name", "Of the saved identity.")
RENAME_TO = Field("rename_to", "", "New name", "Instead of photos: the saved identity's new name.")
KEEP_CROPS = Field("keep_crops", False, "Keep face crops", "So that another face pack can be used later.")
OVERWRITE = Field("overwrite", False, "Overwrite", "Replace the saved identity of that name.")
SAVE_FIELDS = (NAME, RENAME_TO, *CHECK_FIELDS, KEEP_CROPS, OVERWRITE)


class Body(bytearray):
    """The bytes of one request; parsing empties it. As a class of its own it can be counted while it is there."""


_bodies: weakref.WeakValueDictionary[int, Body] = weakref.WeakValueDictionary()  # by id


class UnknownSchemaError(BeyondFacialError):
    """There is no such route to post to."""


class TooLargeError(BeyondFacialError):
    """A request body that is not even read to its end."""


class BusyError(BeyondFacialError):
    """More is being sent at once than the server should hold."""


def schema_of(route: str) -> dict[str, Any]:
    """What may be posted to a route, by the last part of its path, as JSON Schema."""
    schemas = {
        "faces": fields_to_schema("BeyondFacial face check", CHECK_FIELDS, ["references"]),
        "identities": fields_to_schema("BeyondFacial saved identity", SAVE_FIELDS, ["name"]),
    }
    if route not in schemas:
        raise UnknownSchemaError(f'There is no schema "{printable(route)}"; there are {" and ".join(schemas)}.')
    return schemas[route]


async def read_body(request: Request) -> Body:
    """The body, as long as it is JSON by its header and no larger than 16 of the largest photos.

    The header is insisted on because other sites' pages cannot send it here without the browser asking first.
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
    """All fields of the table, checked, with defaults for what was left out; BeyondFacialError names what is wrong.

    A bytearray is empty afterwards.
    """
    try:
        given = parse_json(body if isinstance(body, bytearray) else bytearray(body))
    except BoundsError as error:
        raise BeyondFacialError(f"The request is no JSON that can be read ({error}); send one object.") from None
    except (ValueError, RecursionError):  # not JSON, or not text
        raise BeyondFacialError("The request is no JSON that can be read; send one object.") from None
    if not isinstance(given, dict):
        raise BeyondFacialError(f"The request is a JSON {_kind(given)}; send one object.")
    known = {field.key: field for field in table}
    for key in given:
        if key not in known:
            raise BeyondFacialError(
                f'"{printable(key)}" is not known here; '
                f'the nearest is "{nearest_key(key, known)}" (all: {", ".join(known)}).'
            )
    return {key: check_value(field, given.get(key, field.default)) for key, field in known.items()}


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "text", bool: "truth value", type(None): "null"}
    return kinds.get(type(value), "number")
