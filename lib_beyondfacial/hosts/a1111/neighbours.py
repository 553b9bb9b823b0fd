"""Extensions of A1111 that change the model call: beside some the identity is off, beside others the request fails."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator, Sequence

from torch import nn

from ...errors import BeyondFacialError
from ..patches import method_patches
from ..types import Processing

# The module of a patch on the model call -> the extension's name for users.
CUTS_UP = {
    "tile_methods.multidiffusion": "Tiled Diffusion (MultiDiffusion)",
    "tile_methods.mixtureofdiffusers": "Tiled Diffusion (Mixture of Diffusers)",
    "tile_methods.demofusion": "DemoFusion",
}
REGIONAL = ("scripts.attention", "hook_forward")  # its module, and the function that makes its forward
ROW_SPLITTERS = ("seg_to_q_hook",)  # hooks that split the rows into halves: incantations' Smoothed Energy Guidance
NEUTRAL_PROMPT = "lib_neutral_prompt.global_state"
NEUTRAL_PARTS = re.compile(r"\bAND_(?:PERP|SALT|TOPK)\b")


def find_call_splitter(p: Processing) -> str | None:
    """The extension that splits the model call so that no mask can be applied; None if there is none."""
    denoiser, sd_model = p.sampler.model_wrap_cfg, p.sd_model
    for patch in patches_of([denoiser, denoiser.inner_model, sd_model]):
        names = [CUTS_UP[module] for module in modules_of(patch) if module in CUTS_UP]
        if names:
            return names[0]
    module, maker = REGIONAL
    for patch in patches_of(m for name, m in sd_model.model.named_modules() if name.endswith("attn2")):
        if module in modules_of(patch) and getattr(patch, "__qualname__", "").startswith(f"{maker}."):
            return "Regional Prompter (attention mode)"
    return None


def patches_of(modules: Sequence[nn.Module] | Iterator[nn.Module]) -> Iterator[Callable]:
    for module in modules:
        yield from method_patches(module).values()


def modules_of(function: Callable) -> tuple[str, ...]:
    """The module names of a function and of the class that it is bound to."""
    while isinstance(function, functools.partial):
        function = function.func
    owner = type(getattr(function, "__self__", None)).__module__  # a decorator may hide the module of the function
    return str(getattr(function, "__module__", "")), owner


def warning_for(name: str) -> str:
    return (
        f"BeyondFacial did not act: {name} splits the model's calls, so no mask can be applied; switch it off, or "
        "generate with BeyondFacial first and use it in a second pass."
    )


def splits_rows(unet: nn.Module) -> bool:
    """Whether a hook on the UNet splits the rows of every call into halves."""
    hooks = (hook for module in unet.modules() for hook in module._forward_hooks.values())
    return any(map(is_row_splitter, hooks))


def is_row_splitter(hook: Callable) -> bool:
    return getattr(hook, "__name__", "") in ROW_SPLITTERS


def refuse_neutral_prompt(p: Processing) -> None:
    """BeyondFacialError if the prompt has a part that sd-webui-neutral-prompt composes (AND_PERP and the like)."""
    state = sys.modules.get(NEUTRAL_PROMPT)
    if state is None or not getattr(state, "is_enabled", False):
        return
    texts = [*(getattr(p, "all_prompts", None) or [str(p.prompt)]), *(getattr(p, "all_hr_prompts", None) or [])]
    found = next(filter(None, map(NEUTRAL_PARTS.search, texts)), None)
    if found is not None:
        raise BeyondFacialError(
            f"BeyondFacial: the prompt has {found[0]}, which sd-webui-neutral-prompt composes in a way that the "
            "identity line does not support; write AND instead, or remove that part."
        )
