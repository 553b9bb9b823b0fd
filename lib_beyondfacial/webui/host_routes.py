"""Checks requests to the host's routes for wrong `args`, which the host would fail on or ignore before scripts run."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request

from ..errors import without_base64
from ..settings import PREFIX

PATHS = ("/sdapi/v1/txt2img", "/sdapi/v1/img2img")
ONE_OBJECT = f'BeyondFacial: %s; give a list of one object: "alwayson_scripts": {{"{PREFIX}": {{"args": [{{...}}]}}}}.'


async def check_args(request: Request) -> None:
    """Answer 422 if our entry of `alwayson_scripts` has no list of arguments."""
    try:
        body = await request.json()  # the host has read it already; the request caches it
    except Exception:  # not JSON: the host reports it
        return
    scripts = body.get("alwayson_scripts") if isinstance(body, dict) else None
    for title, entry in scripts.items() if isinstance(scripts, dict) else ():
        problem = what_is_wrong(entry) if str(title).lower() == PREFIX.lower() else ""
        if problem:
            raise HTTPException(422, without_base64(ONE_OBJECT % problem))


def what_is_wrong(entry: Any) -> str:
    """What an entry of `alwayson_scripts` has instead of a list of arguments; "" if it has one or is empty."""
    if isinstance(entry, dict) and "args" in entry:
        kind = {dict: "an object", str: "a text"}.get(type(entry["args"]), f"a {type(entry['args']).__name__}")
        return "" if isinstance(entry["args"], list) else f'"args" is {kind} and no list'
    return '"args" is missing, so nothing would be done' if entry else ""


def mount(_demo: Any, app: FastAPI) -> None:
    """Add the check to the host's routes; for the host's on_app_started."""
    from fastapi.dependencies.utils import get_parameterless_sub_dependant

    for route in app.routes:
        if getattr(route, "path", "") in PATHS and hasattr(route, "dependant"):
            check = get_parameterless_sub_dependant(depends=Depends(check_args), path=route.path)
            route.dependant.dependencies.insert(0, check)
