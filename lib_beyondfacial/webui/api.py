"""The routes beside the host's API, under the host's own authentication. No pydantic models: 1 and 2 serve alike."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from .. import __version__
from ..errors import BeyondFacialError
from ..faces.library import UnknownIdentityError
from ..faces.names import check_name
from ..settings import Settings
from . import bodies, face_check, identities, listings, permissions, person
from .failures import sentence_of

ROOT = "/beyondfacial/v1"
STATUS = (
    (permissions.NotAllowedError, 403),
    (UnknownIdentityError, 404),
    (bodies.UnknownSchemaError, 404),
    (bodies.TooLargeError, 413),
    (BeyondFacialError, 422),
    (Exception, 500),
)


def answering(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Whatever the endpoint raises becomes a status and one sentence in `detail`."""

    @functools.wraps(endpoint)
    async def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return await endpoint(*args, **kwargs)
        except Exception as error:
            status = next(status for kind, status in STATUS if isinstance(error, kind))
            raise HTTPException(status, sentence_of(error)) from error

    return answer


async def get_version() -> dict[str, str]:
    """The version of the extension and of this API."""
    return {"version": __version__, "api": "v1"}


async def get_schema() -> dict[str, Any]:
    """What the object in alwayson_scripts.BeyondFacial.args may hold."""
    return Settings.json_schema()


@answering
async def get_body_schema(route: str) -> dict[str, Any]:
    """What may be posted to a route of our own."""
    return bodies.schema_of(route)


@answering
async def get_models() -> dict[str, Any]:
    """Adapters with what they are and may be used for, face packs, CLIP models."""
    return await run_in_threadpool(listings.models_to_json)


@answering
async def post_faces(request: Request) -> dict[str, Any]:
    """The face check: what a run would make of each photo."""
    body = await bodies.read_body(request)

    def work() -> dict[str, Any]:
        return face_check.check_request(bodies.parse_body(body, bodies.LOOK_FIELDS))

    return await run_in_threadpool(work)


@answering
async def get_identities() -> dict[str, Any]:
    """The saved identities, and whether they may be changed here."""

    def work() -> dict[str, Any]:
        entries = [identities.entry_to_json(entry) for entry in identities.library().entries()]
        return {"identities": entries, "writes": permissions.may_write()}

    return await run_in_threadpool(work)


@answering
async def post_identities(request: Request) -> dict[str, Any]:
    """Save the photos' identity under a name, or rename a saved one."""
    permissions.require_writes()
    body = await bodies.read_body(request)
    return await run_in_threadpool(lambda: save_or_rename(bodies.parse_body(body, bodies.SAVE_FIELDS)))


@answering
async def delete_identity(name: str = "") -> dict[str, Any]:
    """Remove a saved identity for good."""
    permissions.require_writes()
    await run_in_threadpool(identities.delete, name)
    return {"deleted": name}


def save_or_rename(values: dict[str, Any]) -> dict[str, Any]:
    """The answer of POST /beyondfacial/v1/identities, for a checked body."""
    name, rename_to = check_name(values["name"]), values["rename_to"]
    if rename_to and values["references"]:
        raise BeyondFacialError('"references" and "rename_to" are both given; save or rename, one at a time.')
    warnings: tuple[str, ...] = ()
    if rename_to:
        identities.rename(name, rename_to)
        name = check_name(rename_to)
    else:
        settings = Settings(**{field.key: values[field.key] for field in bodies.LOOK_FIELDS})
        identity, warnings = person.identify(settings, is_api=True)
        identities.save(name, identity, values["keep_crops"], values["overwrite"])
    return {**identities.entry_to_json(identities.entry_of(name)), "warnings": list(warnings)}


ROUTES: tuple[tuple[str, str, Callable[..., Awaitable[Any]]], ...] = (
    ("GET", "version", get_version),
    ("GET", "schema", get_schema),
    ("GET", "schema/{route}", get_body_schema),
    ("GET", "models", get_models),
    ("POST", "faces", post_faces),
    ("GET", "identities", get_identities),
    ("POST", "identities", post_identities),
    ("DELETE", "identities", delete_identity),
    ("DELETE", "identities/{name:path}", delete_identity),
)


def mount(_demo: Any, app: FastAPI) -> None:
    """Add the routes to the host's app; for the host's on_app_started."""
    for method, path, endpoint in ROUTES:
        app.add_api_route(
            f"{ROOT}/{path}",
            endpoint,
            methods=[method],
            response_model=None,
            dependencies=[Depends(permissions.require_user)],
        )
