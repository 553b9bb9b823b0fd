"""Requests that another extension sends on to other machines (stable-diffusion-webui-distributed).

It takes every script's arguments as they are, in its before_process(). So ours become one object that means the same
anywhere, before that: the identity as an export, not as files of this machine or a name that only this library knows.
The hosts call setup() of all scripts before before_process() of any, in whichever order they were loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..adapters.features import compute_portable
from ..faces.identity_file import HEAD, record_to_embedding
from ..faces.records import identity_to_record
from ..settings import BY_KEY, PHOTOS, PREFIX, Settings
from . import cells, folders, host_settings, person
from .failures import sentence_of

FORWARDERS = ("distribute",)  # their scripts' titles, in lower case
ATTRIBUTE = "_beyondfacial_forwarded"  # of `p`, plain values only: others copy `p` and turn it into JSON
LOCAL = ("show_mask", "plain_picture")  # what comes back besides pictures would be taken for one


def prepare(p: Any) -> None:
    """Make our arguments self-contained where they will be sent on; else do nothing.

    Where that fails, the request goes out without us, and fails here with the sentence that is kept as "error".
    """
    script = find_script(p)
    if script is None or not is_forwarded(p):
        return
    args = list(p.script_args)
    ours = slice(script.args_from, script.args_to)
    try:
        unit, local = make_unit(p, cells.apply_cell(p, tuple(args[ours])))
    except Exception as error:
        unit, local = {"enabled": False}, {"error": sentence_of(error)}
    args[ours] = [unit, *[None] * (script.args_to - script.args_from - 1)]
    setattr(p, ATTRIBUTE, {**getattr(p, ATTRIBUTE, {}), **local})
    p.script_args = tuple(args) if isinstance(p.script_args, tuple) else args


def is_forwarded(p: Any) -> bool:
    """Whether a script that sends requests on takes part in this one."""
    return any(str(script.title()).lower() in FORWARDERS for script in scripts_of(p))


def find_script(p: Any) -> Any:
    """Our own script among the request's."""
    return next((script for script in scripts_of(p) if script.title() == PREFIX), None)


def scripts_of(p: Any) -> list[Any]:
    return list(getattr(getattr(p, "scripts", None), "alwayson_scripts", None) or [])


def make_unit(p: Any, args: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The object that means the same on any machine, and what only this one uses, to be kept on `p`."""
    is_api = bool(getattr(p, "is_api", False))
    settings = Settings.from_script_args(*args, is_api=is_api)
    if not settings.enabled:
        return {"enabled": False}, {}
    warnings: list[str] = []
    local = {key: getattr(settings, key) for key in LOCAL if getattr(settings, key) != BY_KEY[key].default}
    default = host_settings.default_adapter()  # another machine's may differ
    settings = replace(settings, adapter=settings.adapter or default)
    if not settings.embedding and settings.source == PHOTOS:
        loaded = person.load_persons(settings, is_api or isinstance(args[0], Mapping), p)
        warnings += [warning for each in loaded for warning in each.identity.warnings]
        exports = [export_person(each) for each in loaded]
        adapter = next((each.adapter.name for each in loaded if each.adapter is not None), settings.adapter)
        settings = replace(settings, adapter=adapter, **with_exports(settings, exports))
    stays = (*LOCAL, "references", "identity")
    unit = {
        key: value for key, value in settings.to_dict().items() if key not in stays and value != BY_KEY[key].default
    }
    return unit, {"warnings": warnings, "settings": local} if warnings or local else {}


def with_exports(settings: Settings, exports: list[str]) -> dict[str, Any]:
    """The settings' keys in which the exports take the place of photos and names."""
    if not settings.persons:
        return {"embedding": exports[0]}
    persons = zip(settings.persons, exports, strict=True)
    return {"persons": [replace(each, references=(), identity="", embedding=text) for each, text in persons]}


def export_person(loaded: person.Person) -> str:
    """The person as one text, with what the adapter asks of a model; "" for one whom a ControlNet unit draws."""
    if loaded.adapter is None:
        return ""
    features = compute_portable(loaded.identity, loaded.adapter.spec.features, folders.model_roots())
    record = identity_to_record(replace(loaded.identity, features=features), keep_crops=False, side=HEAD)
    return record_to_embedding(record)


def kept(p: Any, key: str, default: Any) -> Any:
    """What `prepare` kept on `p` for this machine: "error", "warnings", "settings"."""
    return getattr(p, ATTRIBUTE, {}).get(key, default)
