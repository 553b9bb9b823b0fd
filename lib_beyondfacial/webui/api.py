"""Two small routes beside the host's API, under the host's own authentication.

Hosts protect only the routes that their own Api class adds, so the same check stands here again.
"""

from secrets import compare_digest
from typing import Any, Optional

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import shared

from .. import __version__
from ..settings import Settings

ROOT = "/beyondfacial/v1"
_basic = HTTPBasic(auto_error=False)


def known_users() -> dict[str, str]:
    """User -> password as given with --api-auth "user:password,user:password"; empty: the API is open."""
    pairs = (entry.split(":", 1) for entry in (getattr(shared.cmd_opts, "api_auth", None) or "").split(",") if entry)
    return {pair[0]: pair[-1] for pair in pairs}


def require_user(credentials: Optional[HTTPBasicCredentials] = Depends(_basic)) -> None:  # noqa: UP045, B008
    """401 unless the host has no --api-auth or the credentials are one of its pairs."""
    users = known_users()
    if not users:
        return
    expected = users.get(credentials.username) if credentials else None
    given = credentials.password if credentials else ""
    if expected is None or not compare_digest(given.encode(), expected.encode()):
        raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})


def get_version() -> dict[str, str]:
    """The version of the extension and of this API."""
    return {"version": __version__, "api": "v1"}


def get_schema() -> dict[str, Any]:
    """What the object in alwayson_scripts.BeyondFacial.args may hold."""
    return Settings.json_schema()


def mount(_demo: Any, app: FastAPI) -> None:
    """Add the routes to the host's app; for the host's on_app_started."""
    for name, endpoint in {"version": get_version, "schema": get_schema}.items():
        app.add_api_route(
            f"{ROOT}/{name}", endpoint, methods=["GET"], response_model=None, dependencies=[Depends(require_user)]
        )
