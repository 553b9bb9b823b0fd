"""The checkpoint that the host has in memory, for what the page says of adapters; asking never loads one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from modules import shared

from ..hosts.request import host_adapter
from ..unet.sites import Site, enumerate_sites


def loaded_model() -> Any:
    """The host's model; None where none is loaded yet. `shared.sd_model` would load one on the real hosts."""
    try:
        from modules import sd_models

        return sd_models.model_data.sd_model
    except (ImportError, AttributeError):
        return vars(shared).get("sd_model")


def loaded_name() -> str:
    """The checkpoint's name, "" where none is loaded."""
    return str(getattr(getattr(loaded_model(), "sd_checkpoint_info", None), "name_for_extra", ""))


def loaded_sites() -> list[Site]:
    """The cross-attentions of the loaded model's UNet; none where no model of a known kind is loaded."""
    model = loaded_model()
    if model is None:
        return []
    try:
        return [each.site for each in enumerate_sites(host_adapter().unet_of(SimpleNamespace(sd_model=model)))]  # type: ignore[arg-type]
    except Exception:  # of another architecture, or a stand-in until the first one is loaded
        return []
