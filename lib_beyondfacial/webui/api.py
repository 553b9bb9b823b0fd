"""The routes beside the host's API, under the host's own authentication. No pydantic models: 1 and 2 serve alike."""

from typing import Any

from fastapi import Depends, FastAPI, HTTPException

from .. import __version__
from ..settings import Settings
from . import bodies
from .permissions import require_user

ROOT = "/beyondfacial/v1"


def get_version() -> dict[str, str]:
    """The version of the extension and of this API."""
    return {"version": __version__, "api": "v1"}


def get_schema() -> dict[str, Any]:
    """What the object in alwayson_scripts.BeyondFacial.args may hold."""
    return Settings.json_schema()


def get_body_schema(route: str) -> dict[str, Any]:
    """What may be posted to a route of our own."""
    schemas = bodies.schemas()
    if route not in schemas:
        raise HTTPException(404, f'There is no schema "{route[:60]}"; there are {", ".join(schemas)}.')
    return schemas[route]


def mount(_demo: Any, app: FastAPI) -> None:
    """Add the routes to the host's app; for the host's on_app_started."""
    routes = {"version": get_version, "schema": get_schema, "schema/{route}": get_body_schema}
    for path, endpoint in routes.items():
        app.add_api_route(
            f"{ROOT}/{path}", endpoint, methods=["GET"], response_model=None, dependencies=[Depends(require_user)]
        )
