"""What there is to choose from: adapters with family, licence and origin, face packs, the models of features."""

from __future__ import annotations

import html
from typing import Any

from ..adapters import registry
from ..adapters.families import FAMILIES
from ..adapters.features import FEATURES, list_models
from ..errors import BeyondFacialError
from . import folders
from .components import chosen_name, error_html, exception_html

NO_ADAPTER = (
    f"None found. {FAMILIES['faceid'].where_from} Put it into models/ipadapter, then read the list again. "
    f"{FAMILIES['faceid'].licence}"
)
NO_PACK = (
    'None found. Put an insightface pack such as "buffalo_l" (github.com/deepinsight/insightface, "model_zoo") into '
    "models/insightface/models, then read the list again. The packs are for non-commercial research only."
)


def models_to_json() -> dict[str, Any]:
    """The answer of GET /beyondfacial/v1/models."""
    listing = folders.adapters_by_name()
    return {
        "adapters": [_card_to_json(registry.peek_adapter(name, listing)) for name in listing],
        "face_packs": sorted(folders.packs_by_name()),
        "feature_models": list_models(folders.model_roots()),
    }


def adapter_text(name: str | None, family: str | None) -> str:
    """What the chosen adapter is and may be used for, as HTML; also what it lacks here."""
    try:
        listing = folders.adapters_by_name()
        if not listing:
            return ""  # the list itself says so
        card = _peek(chosen_name(name), listing, family or "auto")
        if card is None:
            return html.escape(f"{len(listing)} adapters found; choose one.")
        if card.spec is None:
            return error_html(card.sentence)
        facts = card.spec.facts
        lines = [html.escape(f"{card.name}: {facts.name} for {card.spec.base}. {facts.hint}"), *_needs(facts)]
    except Exception as error:
        return exception_html(error)
    small = html.escape(f"{facts.licence} {facts.where_from}")
    return "<br>".join([*lines, f'<small style="opacity: 0.75">{small}</small>'])


def _peek(name: str, listing: Any, family: str) -> registry.AdapterCard | None:
    """The named adapter's card, or that of the only one that can be used; None where one has to be chosen first."""
    try:
        return registry.peek_adapter(name, listing, family)
    except BeyondFacialError:
        if name:
            raise
        return None


def _needs(facts: Any) -> list[str]:
    """One line on the face pack and on each model that a feature needs: what would be used, or what is missing."""
    lines = []
    try:
        pack = folders.choose_pack("", facts.pack)
        pack_note = "" if pack.name == facts.pack else f' (made with "{facts.pack}", which is not there)'
        lines.append(html.escape(f'Face pack: "{pack.name}"{pack_note}.'))
    except BeyondFacialError as error:
        lines.append(error_html(str(error)))
    for model in (FEATURES[name].model for name in facts.features):
        if model is not None:
            files = model.list_files(folders.model_roots())
            lines.append(html.escape(f'{model.label}: "{next(iter(files))}".') if files else error_html(model.missing))
    return lines


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
