"""Access to our routes, and permission to change saved identities.

Hosts protect only the routes of their own Api class, and gradio only its own, so our routes need both checks again.
"""

from collections.abc import Iterable
from pathlib import Path
from secrets import compare_digest
from typing import Any, Optional

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import shared

from ..errors import BeyondFacialError

_basic = HTTPBasic(auto_error=False)
OWN_MACHINE = ("", "localhost", "127.0.0.1", "::1")


class NotAllowedError(BeyondFacialError):
    """An action that the web UI's flags do not allow."""


def require_user(
    request: Request,
    credentials: Optional[HTTPBasicCredentials] = Depends(_basic),  # noqa: UP045, B008
) -> None:
    """Answer 401 unless the client may use our routes.

    With --api-auth a client must send one of its users and passwords, as for the host's API. Without it, if the UI has
    a login (--gradio-auth), the client must be logged in or send one of the login's users and passwords. Without both,
    every client may use them.
    """
    users = api_users()
    if not users:
        users = ui_users(request.app)
        if users is None or is_logged_in(request):
            return
    expected = users.get(credentials.username) if credentials else None
    given = credentials.password if credentials else ""
    if expected is None or not compare_digest(given.encode(), expected.encode()):
        raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})


def api_users() -> dict[str, str]:
    """User -> password as given with --api-auth "user:password,user:password"; empty: the API is open."""
    return _to_users((getattr(shared.cmd_opts, "api_auth", None) or "").split(","))


def ui_users(app: Any) -> Optional[dict[str, str]]:  # noqa: UP045
    """User -> password of the UI's login; None: the UI has no login.

    gradio's application has them as `auth`; {} if that is a function, or a file of
    passwords cannot be read: then no password is accepted. With
    --nowebui there is no such application; then the flags for a login protect our routes nevertheless.
    """
    if getattr(app, "auth", None) is not None:
        return app.auth if isinstance(app.auth, dict) else {}
    lines = [getattr(shared.cmd_opts, "gradio_auth", None) or ""]
    path = getattr(shared.cmd_opts, "gradio_auth_path", None)
    try:
        lines += Path(path).read_text(encoding="utf-8").splitlines() if path else []
    except (OSError, ValueError):
        return {}
    return _to_users(entry.strip() for line in lines for entry in line.split(",")) or None


def is_logged_in(request: Request) -> bool:
    """Whether the request has a cookie of the UI's login: "access-token" in gradio 3, longer names in gradio 4."""
    tokens = getattr(request.app, "tokens", None) or {}
    return any(name.startswith("access-token") and token in tokens for name, token in request.cookies.items())


def is_public() -> bool:
    """Whether the flags let other machines reach the web UI (--subpath means that it is behind a proxy)."""
    flags = shared.cmd_opts
    if any(getattr(flags, flag, None) for flag in ("listen", "share", "ngrok", "subpath")):
        return True
    return (getattr(flags, "server_name", None) or "") not in OWN_MACHINE


def may_write() -> bool:
    """Whether saved identities may be created, renamed and deleted in UI and API."""
    return not is_public() or bool(getattr(shared.cmd_opts, "beyondfacial_allow_writes", False))


def require_writes() -> None:
    """NotAllowedError if may_write() is False."""
    if not may_write():
        raise NotAllowedError(
            "Saved identities cannot be changed here, because others can reach this web UI; "
            "start it with --beyondfacial-allow-writes to allow it."
        )


def require_export() -> None:
    """NotAllowedError where saved identities may not leave as data: under the same flags as changes."""
    if not may_write():
        raise NotAllowedError(
            "Saved identities cannot be exported here, because others can reach this web UI; "
            "start it with --beyondfacial-allow-writes to allow it."
        )


def _to_users(entries: Iterable[str]) -> dict[str, str]:
    pairs = (entry.split(":", 1) for entry in entries if entry)
    return {pair[0]: pair[-1] for pair in pairs}
