"""Our API routes, with the host's authentication; without pydantic models, so that pydantic 1 and 2 both work."""

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
from ..settings import PREFIX, Settings
from . import api_docs, bodies, exports, face_check, identities, listings, permissions, person, validation
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


# Photos are processed in two separate threads: more threads would hold more photos in memory, and requests waiting in
# the host's limited threads would block the host's routes.
FACE_THREADS = ThreadPoolExecutor(2, "beyondfacial")


def answering(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Turn every exception of an endpoint into a status code and one sentence in `detail`."""

    @functools.wraps(endpoint)
    async def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return await endpoint(*args, **kwargs)
        except Exception as error:
            status = next(status for kind, status in STATUS if isinstance(error, kind))
            answer_error = HTTPException(status, sentence_of(error))
        try:
            raise answer_error  # outside the except block, so that it has no __context__
        finally:
            del answer_error  # break the cycle: its traceback refers to this frame

    return answer


async def in_face_thread(work: Callable[[], Any]) -> Any:
    """Run work on photos in a thread, so that other requests are answered; no photo stays in memory afterwards."""

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
    """Clear the frames of an error and its causes, which refer to photos until the next garbage collection."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _give_memory_back() -> None:
    """Return freed memory to the system: glibc would keep the blocks of photos, up to 200 MB a request."""
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
    """The JSON Schema of the object in alwayson_scripts.BeyondFacial.args."""
    return Settings.json_schema()


@answering
async def get_body_schema(route: str) -> dict[str, Any]:
    """The JSON Schema of the body of one of our POST routes."""
    return bodies.schema_of(route)


@answering
async def get_models() -> dict[str, Any]:
    """Adapters with family and licence, face packs, CLIP models."""
    return await run_in_threadpool(listings.models_to_json)


@answering
async def post_faces(request: Request) -> dict[str, Any]:
    """The face check: which face of each photo a generation would use, and warnings."""
    body = await bodies.read_body(request)

    def work() -> dict[str, Any]:
        return face_check.check_request(bodies.parse_body(body, bodies.CHECK_FIELDS))

    return await in_face_thread(work)


@answering
async def post_validate(request: Request) -> dict[str, Any]:
    """What a request with these settings would be told; nothing is generated."""
    body = await bodies.read_body(request)
    return await in_face_thread(lambda: validation.validate(bodies.parse_object(body)))


@answering
async def get_identities() -> dict[str, Any]:
    """The saved identities, and whether this client may change them."""

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
async def get_export(name: str, request: Request) -> dict[str, Any]:
    """A saved identity as one text, for the setting "embedding"."""
    values = bodies.parse_query(request.query_params, bodies.EXPORT_OPTIONS)
    return await in_face_thread(lambda: exports.export_saved(name, values))


@answering
async def post_export(request: Request) -> dict[str, Any]:
    """The photos' identity as one text, for the setting "embedding"; nothing is saved."""
    body = await bodies.read_body(request)

    def work() -> dict[str, Any]:
        values = bodies.parse_body(body, bodies.EXPORT_FIELDS)
        identity, warnings = person.identify(check_settings(values), is_api=True)
        return exports.export_identity(identity, values, warnings)

    return await in_face_thread(work)


@answering
async def delete_identity(name: str = "") -> dict[str, Any]:
    """Delete a saved identity permanently."""
    permissions.require_writes()
    await run_in_threadpool(identities.delete, name)
    return {"deleted": name}


def save_or_rename(values: dict[str, Any]) -> dict[str, Any]:
    """The answer of POST /beyondfacial/v1/identities, for a checked body."""
    name, rename_to = check_name(values["name"]), values["rename_to"]
    if rename_to and values["references"]:
        raise BeyondFacialError('"references" and "rename_to" are both given; send only one of them.')
    warnings: tuple[str, ...] = ()
    if rename_to:
        identities.rename(name, rename_to)
        name = check_name(rename_to)
    else:
        identity, warnings = person.identify(check_settings(values), is_api=True)
        identities.save(name, identity, values["keep_crops"], values["overwrite"])
    return {**identities.entry_to_json(identities.entry_of(name)), "warnings": list(warnings)}


def check_settings(values: dict[str, Any]) -> Settings:
    """Which photos, and how their faces are found."""
    return Settings(**{field.key: values[field.key] for field in bodies.CHECK_FIELDS})


ROUTES: tuple[tuple[str, str, Callable[..., Awaitable[Any]]], ...] = (
    ("GET", "version", get_version),
    ("GET", "schema", get_schema),
    ("GET", "schema/{route:path}", get_body_schema),
    ("GET", "models", get_models),
    ("POST", "faces", post_faces),
    ("POST", "validate", post_validate),
    ("GET", "identities", get_identities),
    ("POST", "identities", post_identities),
    ("GET", "identities/{name:path}/export", get_export),
    ("POST", "identities/export", post_export),
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
            tags=[PREFIX],
            openapi_extra=api_docs.openapi_extra(method, path),
            dependencies=[Depends(permissions.require_user)],
        )
