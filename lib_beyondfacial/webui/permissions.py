"""Who may ask, and who may change what is saved.

Hosts protect only the routes that their own Api class adds, so the same check stands here again.
"""

from secrets import compare_digest
from typing import Optional

from fastapi import Depends, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import shared

from ..errors import BeyondFacialError

_basic = HTTPBasic(auto_error=False)
OWN_MACHINE = ("", "localhost", "127.0.0.1", "::1")


class NotAllowedError(BeyondFacialError):
    """What the web UI's flags do not let a visitor do."""


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


def is_public() -> bool:
    """Whether others than this machine's user can reach the web UI, as its flags say."""
    flags = shared.cmd_opts
    if any(getattr(flags, flag, None) for flag in ("listen", "share", "ngrok")):
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
