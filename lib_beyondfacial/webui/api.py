"""The routes beside the host's API, under the host's own authentication. No pydantic models: 1 and 2 serve alike."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
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
    (bodies.BusyError, 429),
    (BeyondFacialError, 422),
    (Exception, 500),
)


# Photos are worked on by two threads of our own: more would hold more photos at once, and in the host's threads, which
# are limited, those that wait for their turn would keep the host's own routes waiting.
FACE_THREADS = ThreadPoolExecutor(2, "beyondfacial")


def answering(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Whatever the endpoint raises becomes a status and one sentence in `detail`."""

    @functools.wraps(endpoint)
    async def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return await endpoint(*args, **kwargs)
        except Exception as error:
            status = next(status for kind, status in STATUS if isinstance(error, kind))
            answer_error = HTTPException(status, sentence_of(error))
        try:
            raise answer_error  # here, where no exception is being handled that it would remember
        finally:
            del answer_error  # the frame is in its traceback

    return answer


async def in_face_thread(work: Callable[[], Any]) -> Any:
    """The result of work on photos, done while other requests are answered; nothing of the photos is kept."""

    def run() -> Any:
        try:
            return work()
        except Exception as error:
            _clear_frames(error)
            raise
        finally:
            _give_memory_back()

    return await asyncio.get_running_loop().run_in_executor(FACE_THREADS, run)


def _clear_frames(error: BaseException | None) -> None:
    """Of an error and its causes: their frames hold photos, and cycles keep them until a garbage collection."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _give_memory_back() -> None:
    """To the system: glibc alone keeps the freed blocks of photos, up to 200 MB a request, for what comes later."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)  # 0.2 to 40 ms


@functools.lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # macOS and musl, or Windows
        return None


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
        return face_check.check_request(bodies.parse_body(body, bodies.CHECK_FIELDS))

    return await in_face_thread(work)


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
    return await in_face_thread(lambda: save_or_rename(bodies.parse_body(body, bodies.SAVE_FIELDS)))


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
        settings = Settings(**{field.key: values[field.key] for field in bodies.CHECK_FIELDS})
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
