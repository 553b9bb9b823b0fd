"""Who may ask, and who may change what is saved.

Hosts protect only the routes that their own Api class adds, and gradio only its own, so both checks stand here again.
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
    """What the web UI's flags do not let a visitor do."""


def require_user(
    request: Request,
    credentials: Optional[HTTPBasicCredentials] = Depends(_basic),  # noqa: UP045, B008
) -> None:
    """401 unless the visitor may ask.

    With --api-auth that is who gives one of its users and passwords, as at the host's own API. Without it, where the
    page has a login (--gradio-auth): who is logged in there, or gives one of the login's users and passwords. Where
    there is neither, everybody.
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
    """User -> password of the page's login; None: the page is open.

    gradio's application has them as `auth`, which may be a function, too: then none is known here. Under --nowebui
    there is no page and no such application; the flags that would give it a login close our routes all the same.
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
    """Whether a cookie of the page's login came along: "access-token" in gradio 3, longer names in gradio 4."""
    tokens = getattr(request.app, "tokens", None) or {}
    return any(name.startswith("access-token") and token in tokens for name, token in request.cookies.items())


def is_public() -> bool:
    """Whether others than this machine's user can reach the web UI, as its flags say; --subpath is for a proxy."""
    flags = shared.cmd_opts
    if any(getattr(flags, flag, None) for flag in ("listen", "share", "ngrok", "subpath")):
        return True
    return (getattr(flags, "server_name", None) or "") not in OWN_MACHINE


def may_write() -> bool:
    """Whether saved identities may be made, renamed and deleted through page and API."""
    return not is_public() or bool(getattr(shared.cmd_opts, "beyondfacial_allow_writes", False))


def require_writes() -> None:
    """NotAllowedError where may_write() is False; the page asks it, too."""
    if not may_write():
        raise NotAllowedError(
            "Saved identities cannot be changed here, because others can reach this web UI; "
            "start it with --beyondfacial-allow-writes to allow it."
        )


def _to_users(entries: Iterable[str]) -> dict[str, str]:
    pairs = (entry.split(":", 1) for entry in entries if entry)
    return {pair[0]: pair[-1] for pair in pairs}
