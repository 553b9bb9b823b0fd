"""The closer look in a Forge: taken behind the host's CFG, with calls of its own (docs/method.md section 3b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..method import close_look
from . import forge_model as model
from . import look
from .forge_lines import Entry
from .requests import refuse_nan
from .unet_sites import BranchHooks, hooked

if TYPE_CHECKING:
    from .forge_pass import Run


@dataclass(frozen=True, eq=False)
class Guided:
    """What the host's guidance makes of the semantic line.

    denoised: x0 behind it, or what it were if it were linear. gain: by how much that changes with delta.
    uncond: the host's own entries.
    """

    denoised: Tensor
    gain: float
    cond_scale: float
    uncond: list[Entry] | None


def look_closer(run: Run, args: dict[str, Any], delta: Tensor, guided: Guided) -> Tensor:
    """The delta that holds each head at what it is from near, once that has been seen (docs/method.md eq. 13-15)."""
    p, state = run.current.p, run.current.state  # type: ignore[union-attr]
    sigma = float(args["sigma"].flatten()[0])
    if state.wants_look(sigma):  # type: ignore[union-attr]
        if any("c_concat" in entry["model_conds"] for entry in guided.uncond or []):
            state.stop_looking()  # type: ignore[union-attr]
            run.handle.warn(look.NOT_WITH_INPAINTING)
        else:
            so_far, seeds = guided.denoised.float() + guided.gain * delta, p.seeds[: len(delta)]
            look.look(lens_of(run, args, guided), run.handle, state, so_far, sigma, seeds, look.near_side(p))
    return state.hold(delta, guided.denoised, guided.gain)  # type: ignore[union-attr]


def lens_of(run: Run, args: dict[str, Any], guided: Guided) -> look.Lens:
    """What this host lends to a look at this level."""
    current, x_pass, cfg_scale = run.current, args["input"], min(guided.cond_scale, close_look.CFG)
    p = current.p  # type: ignore[union-attr]

    def predict(x: Tensor, sigma: float) -> Tensor:
        at, x = torch.full((len(x),), sigma, device=x_pass.device, dtype=x_pass.dtype), x.to(x_pass)

        def line(entry: Entry) -> Tensor:
            run.handle.identity_rows += len(x)
            return model.predict_entries(p, [entry], x, at).float()

        hooks = BranchHooks(run.sites, run.branch, run.settings.weight)  # type: ignore[arg-type]
        with hooked(hooks.attach()):
            near = line(current.near_entry)  # type: ignore[union-attr, arg-type]
        hooks.check_fired()
        refuse_nan(near, sigma)
        if cfg_scale == 1 or not guided.uncond:
            return near
        far = line(model.of_no_place(guided.uncond[0]))
        return far + cfg_scale * (near - far)

    return look.Lens(
        lambda z: model.decode(p, z.to(x_pass.dtype)),
        lambda picture: model.encode(p, picture.permute(1, 2, 0) / 2 + 0.5),
        predict,
        lambda: model.load_unet(p, x_pass),
    )
