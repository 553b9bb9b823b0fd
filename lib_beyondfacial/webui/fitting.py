"""Which adapters can be used with the loaded model, and which one a request means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..adapters import registry
from ..adapters.attention import check_fits
from ..adapters.checkpoints import AUTO
from ..errors import BeyondFacialError
from . import folders, host_settings, loaded_model

NO_MODEL = (
    "No checkpoint is loaded yet, so it is not known which of the adapters fits it; the only one that does is taken, "
    "or choose one."
)

OTHER_KIND = 'The loaded model "{model}" is neither an SD1.5 nor an SDXL model; choose another checkpoint.'


class NoModelError(BeyondFacialError):
    """Several adapters could be meant, and no model is loaded that they could fit."""


def unfit_adapters(listing: Mapping[str, Path], family: str = AUTO) -> dict[str, str]:
    """Why an adapter cannot be used, by name: its file, or the model that is loaded."""
    sites, model, reasons = loaded_model.loaded_sites(), loaded_model.loaded_name(), {}
    if model and not sites:
        return dict.fromkeys(listing, OTHER_KIND.format(model=model))
    for name in listing:
        card = registry.peek_adapter(name, listing, family)
        try:
            if card.spec is not None and sites:
                check_fits(card.spec, sites, name)
            reason = card.sentence
        except BeyondFacialError as error:
            reason = str(error)
        if reason:
            reasons[name] = reason
    return reasons


def choose_adapter(name: str, family: str = AUTO) -> str:
    """The known name of the adapter that a request means: the named one, else the one of the host's settings, else
    the only one that can be used with the loaded model. Raises BeyondFacialError where there is none, or several;
    NoModelError where that cannot be told yet."""
    name, listing = name or host_settings.default_adapter(), folders.adapters_by_name()
    if not name and len(listing) > 1:
        unfit = unfit_adapters(listing, family)
        if len(unfit) == len(listing):
            reasons = " ".join(dict.fromkeys(unfit.values()))
            raise BeyondFacialError(f"None of the {len(listing)} adapters can be used. {reasons}")
        listing = {each: path for each, path in listing.items() if each not in unfit}
        if len(listing) > 1 and not loaded_model.loaded_name():
            raise NoModelError(NO_MODEL)
    return registry.choose_name(name, listing, family)
