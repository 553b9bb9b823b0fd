"""Serves as `modules.script_callbacks`: on_*(callback) and *_callback(...) for each of EVENTS. An exception in a
listener is printed, not raised (but `InterruptedException` is no `Exception`, and does end the sampling)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import make_dataclass
from functools import partial
from typing import Any, NamedTuple

from . import basics as errors

EVENTS = """app_started model_loaded ui_tabs ui_settings before_image_saved image_saved cfg_denoiser cfg_denoised
    cfg_after_cfg before_component after_component infotext_pasted script_unloaded before_ui before_reload"""

STEP = ["sampling_step", "total_sampling_steps"]
# One model call. All but the step are read again after the listeners ran.
CFGDenoiserParams = make_dataclass(
    "CFGDenoiserParams", ["x", "image_cond", "sigma", *STEP, "text_cond", "text_uncond", "denoiser"]
)
# The raw predictions of all rows. Only edits of x in place count; assigning x does nothing.
CFGDenoisedParams = make_dataclass("CFGDenoisedParams", ["x", *STEP, "inner_model"])
# The guided prediction; both edits and assignments count.
AfterCFGCallbackParams = make_dataclass("AfterCFGCallbackParams", ["x", *STEP])


class ScriptCallback(NamedTuple):
    script: str
    callback: Callable


callback_map: dict[str, list[ScriptCallback]] = {f"callbacks_{event}": [] for event in EVENTS.split()}


def clear_callbacks() -> None:
    for listeners in callback_map.values():
        listeners.clear()


def _listen(event: str, callback: Callable, *, name: str | None = None) -> None:
    callback_map[f"callbacks_{event}"].append(ScriptCallback(sys._getframe(1).f_code.co_filename, callback))


def _emit(event: str, *args: Any) -> None:
    for listener in callback_map[f"callbacks_{event}"]:
        try:
            listener.callback(*args)
        except Exception:
            errors.report(f"Error executing callback {event}_callback for {listener.script}", exc_info=True)


for _event in EVENTS.split():
    globals()[f"on_{_event}"] = partial(_listen, _event)
    globals()[f"{_event}_callback"] = partial(_emit, _event)
