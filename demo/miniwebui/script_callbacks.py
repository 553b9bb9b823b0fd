"""Serves as `modules.script_callbacks`: what extensions may listen to. An exception in a listener is printed, not raised
(but `InterruptedException` is no `Exception`, and does end the sampling)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from . import basics as errors


@dataclass
class CFGDenoiserParams:
    """One model call. x, image_cond, sigma, text_cond, text_uncond are read again after the listeners ran."""

    x: Tensor
    image_cond: Tensor
    sigma: Tensor
    sampling_step: int
    total_sampling_steps: int
    text_cond: Tensor
    text_uncond: Tensor
    denoiser: Any = None


@dataclass
class CFGDenoisedParams:
    """The raw predictions of all rows. Only edits of x in place count; assigning x does nothing."""

    x: Tensor
    sampling_step: int
    total_sampling_steps: int
    inner_model: Any


@dataclass
class AfterCFGCallbackParams:
    x: Tensor
    sampling_step: int
    total_sampling_steps: int


class ScriptCallback(NamedTuple):
    script: str
    callback: Callable


EVENTS = (
    "app_started model_loaded ui_tabs ui_settings before_image_saved image_saved cfg_denoiser cfg_denoised cfg_after_cfg"
    " before_component after_component infotext_pasted script_unloaded before_ui before_reload"
).split()
callback_map: dict[str, list[ScriptCallback]] = {f"callbacks_{event}": [] for event in EVENTS}


def clear_callbacks() -> None:
    for listeners in callback_map.values():
        listeners.clear()


def remove_callbacks_for_function(function: Callable) -> None:
    for listeners in callback_map.values():
        listeners[:] = [listener for listener in listeners if listener.callback != function]


def _listen(event: str, callback: Callable, *, name: str | None = None) -> None:
    callback_map[f"callbacks_{event}"].append(ScriptCallback(sys._getframe(1).f_code.co_filename, callback))


def _emit(event: str, *args: Any) -> list[Any]:
    results = []
    for listener in callback_map[f"callbacks_{event}"]:
        try:
            results.append(listener.callback(*args))
        except Exception:
            errors.report(f"Error executing callback {event}_callback for {listener.script}", exc_info=True)
    return results


for _event in EVENTS:
    globals()[f"on_{_event}"] = partial(_listen, _event)
    globals()[f"{_event}_callback"] = partial(_emit, _event)
