"""sd-webui-controlnet beside us: its marks, the units that fix a batch at the first call they see, its reference pass.

It puts one token before each prompt (all +1024 a cond, all -1024 an uncond), which its own `forward` of the UNet takes
off again. It takes a call as marked by the mean over all rows, and an unmarked call as positive throughout. So a call
past that forward is given clean conds, and a call through it marks in all rows or in none, as the host's call has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..extensions import is_ours
from ..patches import hidden_hooks
from ..types import Processing

TITLE = "controlnet"
MARK = 1024.0
MARK_SLACK = 1e-3
LATENT_TYPES = ("AttentionInjection", "IPAdapter", "InstantID")  # these units cache by the first call's rows
LATENT_PREPROCESSORS = ("colorfix", "inpaint_only")
LATENTS = ("used_hint_cond", "used_hint_cond_latent", "used_hint_inpaint_hijack")  # of a unit: fixed at the first call
STYLE_ALIGN = "StyleAlign"


def context_of(cond: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The tokens (B, T, C) of an encoded prompt; SDXL's is a dict."""
    return cond["crossattn"] if isinstance(cond, Mapping) else cond


def with_context(cond: Tensor | Mapping[str, Tensor], context: Tensor) -> Any:
    return type(cond)({**cond, "crossattn": context}) if isinstance(cond, Mapping) else context  # type: ignore[call-arg]


def is_marked(cond: Tensor | Mapping[str, Tensor]) -> bool:
    """Whether all rows bear ControlNet's mark."""
    first = context_of(cond)[:, 0].float()
    return bool((first.abs() - MARK).abs().mean() < MARK_SLACK)


def marked_like(cond: Any, like: Tensor | Mapping[str, Tensor]) -> Any:
    """A cond that we have encoded, marked as a cond where the host's are."""
    if not is_marked(like):
        return cond
    context = context_of(cond)
    return with_context(cond, torch.cat([torch.full_like(context[:, :1], MARK), context], dim=1))


def unmarked(cond: Any) -> Any:
    """A cond of the host's as a call past ControlNet's forward needs it."""
    return with_context(cond, context_of(cond)[:, 1:]) if is_marked(cond) else cond


def find_network(p: Processing) -> nn.Module | None:
    """ControlNet's hook on the UNet, its `control_params` the units in use; None where it does nothing."""
    scripts = getattr(getattr(p, "scripts", None), "alwayson_scripts", None) or []
    for script in scripts:
        network = getattr(script, "latest_network", None)
        if network is not None and script.title().lower() == TITLE:
            return network if getattr(network, "control_params", None) or aligns_style(network) else None
    return None


def aligns_style(network: nn.Module) -> bool:
    """Whether its attention runs over the whole batch at once."""
    return getattr(getattr(network, "attention_auto_machine", None), "name", "") == STYLE_ALIGN


def fixes_rows(network: nn.Module) -> bool:
    """Whether a unit in use remembers the rows of the first UNet call that it sees."""
    return aligns_style(network) or any(map(unit_fixes_rows, network.control_params or []))  # type: ignore[arg-type]


def unit_fixes_rows(unit: Any) -> bool:
    name = str((getattr(unit, "preprocessor", None) or {}).get("name", ""))
    is_typed = getattr(getattr(unit, "control_model_type", None), "name", "") in LATENT_TYPES
    return is_typed or any(part in name for part in LATENT_PREPROCESSORS)


@contextmanager
def rows_kept(network: nn.Module | None, device: torch.device) -> Iterator[None]:
    """A call of other rows than the host's leaves no trace: in no unit, and not in torch's random numbers, from which
    the reference units draw."""
    units = list(getattr(network, "control_params", None) or [])
    kept = [(unit, {name: getattr(unit, name, None) for name in LATENTS}) for unit in units if unit_fixes_rows(unit)]
    models = [unit.control_model for unit, _ in kept if isinstance(getattr(unit.control_model, "cache", None), dict)]
    caches = [model.cache for model in models]
    for unit, latents in kept:
        for name in latents:
            setattr(unit, name, None)
    for model in models:
        model.cache = {}
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=bool(kept)):
            yield
    finally:
        for unit, latents in kept:
            for name, value in latents.items():
                setattr(unit, name, value)
        for model, cache in zip(models, caches, strict=True):
            model.cache = cache


@contextmanager
def reference_unwatched(network: nn.Module, unet: nn.Module) -> Iterator[None]:
    """While a reference unit shows its picture to the UNet, within the host's call, our hooks neither read nor add."""
    original: Callable | None = network.__dict__.get("original_forward")
    if original is None:
        yield
        return

    def forward(*args: object, **kwargs: object) -> object:
        with hidden_hooks(unet, is_ours):
            return original(*args, **kwargs)

    network.__dict__["original_forward"] = forward
    try:
        yield
    finally:
        if network.__dict__.get("original_forward") is forward:
            network.__dict__["original_forward"] = original
