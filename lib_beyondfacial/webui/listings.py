"""Lists for UI and API: adapters with family, licence and origin, face packs, and models of features."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..adapters import registry
from ..adapters.checkpoints import AUTO
from ..adapters.families import Family
from ..adapters.features import FEATURES, list_models
from ..errors import BeyondFacialError
from ..settings import AUTOMATIC
from . import folders, host_settings, loaded_model
from .components import chosen_name, error_html, exception_html, warning_html
from .fitting import NO_MODEL, choose_adapter, unfit_adapters


def models_to_json() -> dict[str, Any]:
    """The answer of GET /beyondfacial/v1/models."""
    listing = folders.adapters_by_name()
    return {
        "adapters": [_card_to_json(registry.peek_adapter(name, listing)) for name in listing],
        "face_packs": sorted(folders.packs_by_name()),
        "feature_models": list_models(folders.model_roots()),
    }


def adapter_names() -> list[str]:
    """Adapters by name; those that cannot be used with the loaded model are the last."""
    listing = folders.adapters_by_name()
    unfit = unfit_adapters(listing)
    return sorted(listing, key=lambda name: (name in unfit, name.casefold()))


def adapter_text(name: str | None, family: str | None) -> str:
    """One line on the chosen adapter and the loaded model, as HTML, with what it lacks; licence and origin folded.

    Its data attribute names the adapters that cannot be used, for the page's script to grey them.
    """
    try:
        listing = folders.adapters_by_name()
        unfit = unfit_adapters(listing)
        lines = _adapter_lines(chosen_name(name) or host_settings.default_adapter(), family or AUTO, listing, unfit)
    except Exception as error:
        unfit, lines = {}, [exception_html(error)]
    known = html.escape(json.dumps(unfit), quote=True)
    return f'<div class="beyondfacial-panel" data-beyondfacial-unfit="{known}">{"<br>".join(lines)}</div>'


def _adapter_lines(name: str, family: str, listing: Mapping[str, Path], unfit: Mapping[str, str]) -> list[str]:
    if not listing:
        return []  # the list of what is missing says so
    card = _peek(name, listing, family)
    if card is None and not loaded_model.loaded_name():
        return [html.escape(NO_MODEL)]
    if card is None:
        count = len(listing) - len(unfit)
        choose = f'Choose an adapter: {count} fit this model, and "{AUTOMATIC}" needs exactly one.'
        return [warning_html(choose if count else "No adapter fits this model.")]
    if card.spec is None:
        return [error_html(card.sentence)]
    if card.name in unfit and family == AUTO:
        return [error_html(unfit[card.name])]
    facts, model = card.spec.facts, loaded_model.loaded_name()
    fits = f"fits the loaded model {model}" if model else f"is for {card.spec.base}"
    line, problems = _needs(facts)
    first = f'<span class="beyondfacial-good">\N{CHECK MARK}</span> {html.escape(f"{card.name} {fits}.")}'
    more = html.escape(f"{facts.name}. {line} {facts.hint} {facts.licence} {facts.where_from}")
    return [f'<details><summary>{first}</summary><span class="beyondfacial-quiet">{more}</span></details>', *problems]


def _peek(name: str, listing: Mapping[str, Path], family: str) -> registry.AdapterCard | None:
    """The card of the adapter that a request would use; None where one has to be chosen first."""
    try:
        return registry.peek_adapter(choose_adapter(name, family), listing, family)
    except BeyondFacialError:
        if name:
            raise
        return None


def _needs(facts: Family) -> tuple[str, list[str]]:
    """The face pack and the models of features that would be used, and an error for each that is missing."""
    line, problems = "", []
    try:
        pack = folders.choose_pack("", facts.pack)
        made_with = "" if pack.name == facts.pack else f" (made with {facts.pack}, which is not there)"
        line = f"Face pack {pack.name}{made_with}."
    except BeyondFacialError as error:
        problems.append(error_html(str(error)))
    for model in (FEATURES[name].model for name in facts.features):
        if model is None:
            continue
        if files := model.list_files(folders.model_roots()):
            line += f" {model.label}: {next(iter(files))}."
        else:
            problems.append(error_html(model.missing))
    return line, problems


def _card_to_json(card: registry.AdapterCard) -> dict[str, Any]:
    if card.spec is None:
        keys = ("family", "family_name", "base", "pack", "features", "licence", "where_from", "hint")
        return {"name": card.name, **dict.fromkeys(keys), "problem": card.sentence}
    facts = card.spec.facts
    return {
        "name": card.name,
        "family": facts.key,
        "family_name": facts.name,
        "base": card.spec.base,
        "pack": facts.pack,
        "features": list(facts.features),
        "licence": facts.licence,
        "where_from": facts.where_from,
        "hint": facts.hint,
        "problem": "",
    }
