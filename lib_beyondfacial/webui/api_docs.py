"""What /docs tells of the routes: bodies, queries and examples, as OpenAPI."""

from __future__ import annotations

from typing import Any

from ..settings import fields_to_schema
from . import bodies

PHOTO = "<base64 of a photo>"
BODIES: dict[str, dict[str, Any]] = {
    "faces": {"references": [PHOTO, PHOTO]},
    "validate": {"references": [PHOTO], "weight": 1.2},
    "identities": {"name": "Anna", "references": [PHOTO], "keep_crops": True},
    "identities/export": {"references": [PHOTO], "adapter": "ip-adapter-faceid_sd15"},
}
EXPORT = {
    "embedding": "<base64>",
    "photo_hash": "3f9a1c0b2d",
    "parts": {
        "photos": 2,
        "packs": ["buffalo_l:5b8e9a0c1d"],
        "features": [],
        "head_crop": True,
        "face_crops": False,
    },
    "warnings": [],
}
ANSWERS: dict[str, dict[str, Any]] = {
    "validate": {
        "problems": [],
        "warnings": [],
        "adapter": "ip-adapter-faceid_sd15",
        "pack": "buffalo_l",
        "rows": {"steps": 20, "plain": 40, "identity": 12, "refinement": 8},
    },
    "identities/export": EXPORT,
    "identities/{name:path}/export": EXPORT,
}


def openapi_extra(method: str, path: str) -> dict[str, Any]:
    """What FastAPI cannot know of a route, since it takes no pydantic model: one entry of the OpenAPI document."""
    extra: dict[str, Any] = {}
    if method == "POST":
        schema = {key: value for key, value in bodies.schema_of(path).items() if key != "$schema"}
        content = {"application/json": {"schema": schema, "example": BODIES[path]}}
        extra["requestBody"] = {"required": True, "content": content}
    if path in ANSWERS:
        content = {"application/json": {"example": ANSWERS[path]}}
        extra["responses"] = {"200": {"description": "Successful Response", "content": content}}
    if path.endswith("/export") and method == "GET":
        options = fields_to_schema("", bodies.EXPORT_OPTIONS)["properties"]
        extra["parameters"] = [
            {"name": key, "in": "query", "required": False, "schema": each} for key, each in options.items()
        ]
    return extra
