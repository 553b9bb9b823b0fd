"""Our section of the host's settings."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import shared

from ..settings import AUTOMATIC, PREFIX
from . import folders

SECTION = ("beyondfacial", PREFIX)
DEFAULT_ADAPTER, ALWAYS_MASK, SAVE_MASKS, CHECK_PHOTOS = (
    f"beyondfacial_{name}" for name in ("default_adapter", "always_show_mask", "save_masks", "check_photos")
)
SETTINGS: dict[str, tuple[Any, str]] = {
    DEFAULT_ADAPTER: (AUTOMATIC, f"Identity adapter that {AUTOMATIC} means, where several are there"),
    ALWAYS_MASK: (False, "Always show the mask after the pictures (page only)"),
    SAVE_MASKS: (False, "Save each picture's mask beside the picture"),
    CHECK_PHOTOS: (True, "Check the faces in photos as soon as they are dropped"),
}


def add_settings() -> None:
    """Declare our settings; for the host's on_ui_settings."""
    for key, (default, label) in SETTINGS.items():
        kind, more = (gr.Dropdown, adapter_choices) if key == DEFAULT_ADAPTER else (gr.Checkbox, {"interactive": True})
        shared.opts.add_option(key, shared.OptionInfo(default, label, kind, more, section=SECTION))


def adapter_choices() -> dict[str, Any]:
    return {"choices": [AUTOMATIC, *folders.adapters_by_name()]}


def setting_of(key: str) -> Any:
    """The user's choice; the default where the host knows the setting not (yet)."""
    return getattr(shared.opts, "data", {}).get(key, SETTINGS[key][0])


def default_adapter() -> str:
    """The adapter that stands for none chosen; "" where that is left to us."""
    name = str(setting_of(DEFAULT_ADAPTER) or "")
    return "" if name == AUTOMATIC else name


def always_shows_mask() -> bool:
    return bool(setting_of(ALWAYS_MASK))


def saves_masks() -> bool:
    return bool(setting_of(SAVE_MASKS))


def checks_by_itself() -> bool:
    return bool(setting_of(CHECK_PHOTOS))
