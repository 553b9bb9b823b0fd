"""Works together with sd-webui-controlnet: its marks, its units that depend on the first call, its reference pass.

It puts one token before each prompt (all +1024 for a cond, all -1024 for an uncond); its own `forward` of the UNet
removes the token again. It decides by the mean over all rows whether a call is marked, and treats an unmarked call as
cond only. So calls that bypass this forward need conds without marks, and calls through it need marks in all rows or
in none, as in the host's call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..extensions import is_ours
from ..identity_units import find_script
from ..patches import hidden_hooks
from ..types import Processing

MARK = 1024.0
MARK_SLACK = 1e-3
# These units keep tensors that fit only the rows of the first call.
LATENT_TYPES = ("AttentionInjection", "IPAdapter", "InstantID")
LATENT_PREPROCESSORS = ("colorfix", "inpaint_only")
LATENTS = ("used_hint_cond", "used_hint_cond_latent", "used_hint_inpaint_hijack")  # of a unit: fixed at the first call
STYLE_ALIGN = "StyleAlign"


def context_of(cond: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The tokens (B, T, C) of an encoded prompt; SDXL's is a dict."""
    return cond["crossattn"] if isinstance(cond, Mapping) else cond


def with_context(cond: Tensor | Mapping[str, Tensor], context: Tensor) -> Any:
    return type(cond)({**cond, "crossattn": context}) if isinstance(cond, Mapping) else context  # type: ignore[call-arg]


def is_marked(cond: Tensor | Mapping[str, Tensor]) -> bool:
    """Whether all rows have ControlNet's mark."""
    first = context_of(cond)[:, 0].float()
    return bool((first.abs() - MARK).abs().mean() < MARK_SLACK)


def marked_like(cond: Any, like: Tensor | Mapping[str, Tensor]) -> Any:
    """A cond that we encoded, with the cond mark if the host's conds have one."""
    if not is_marked(like):
        return cond
    context = context_of(cond)
    return with_context(cond, torch.cat([torch.full_like(context[:, :1], MARK), context], dim=1))


def unmarked(cond: Any) -> Any:
    """The host's cond without marks, for calls that bypass ControlNet's forward."""
    return with_context(cond, context_of(cond)[:, 1:]) if is_marked(cond) else cond


def find_network(p: Processing) -> nn.Module | None:
    """ControlNet's hook on the UNet, whose `control_params` are the units in use; None if it is not active."""
    network = getattr(find_script(p), "latest_network", None)
    is_active = network is not None and (getattr(network, "control_params", None) or aligns_style(network))
    return network if is_active else None


def aligns_style(network: nn.Module) -> bool:
    """Whether a unit's attention mixes all rows of a call (style alignment)."""
    return getattr(getattr(network, "attention_auto_machine", None), "name", "") == STYLE_ALIGN


def fixes_rows(network: nn.Module, confined: Sequence[Any] = ()) -> bool:
    """Whether a unit in use, other than the confined ones, keeps tensors that fit only the rows of its first call."""
    units = [unit for unit in network.control_params or [] if unit not in confined]  # type: ignore[union-attr]
    return aligns_style(network) or any(map(unit_fixes_rows, units))


def unit_fixes_rows(unit: Any) -> bool:
    name = str((getattr(unit, "preprocessor", None) or {}).get("name", ""))
    is_typed = getattr(getattr(unit, "control_model_type", None), "name", "") in LATENT_TYPES
    return is_typed or any(part in name for part in LATENT_PREPROCESSORS)


@contextmanager
def rows_kept(network: nn.Module | None, device: torch.device) -> Iterator[None]:
    """Save and restore the units' caches and torch's random state, from which reference units draw, around a call
    whose rows differ from the host's."""
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
    """Disable our hooks while a reference unit runs its own picture through the UNet inside the host's call."""
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
