"""The closer look in A1111: taken before the host's CFG, with calls of `inner_model` (docs/method.md section 3b)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..method import close_look
from . import a1111_model as model
from . import look
from .patches import as_its_class_has_it
from .requests import refuse_nan
from .unet_sites import BranchHooks, hooked

if TYPE_CHECKING:
    from .a1111_pass import Run


def look_closer(run: Run, params: Any, delta: Tensor, semantic: Tensor) -> Tensor:
    """The delta that holds each head at what it is from near, once that has been seen (docs/method.md eq. 13-15)."""
    current = run.current
    denoiser, seen, state = current.denoiser, current.params, current.state
    batch = len(semantic)
    uncond = params.x[-batch:]  # where the host ran none, its copy of the cond rows, which it guides by 1
    is_guided = current.ledger.seen > current.ledger.count
    gain = model.cfg_scale(denoiser) if is_guided else 1.0
    guided = uncond.float() + gain * (semantic.float() - uncond.float())
    denoised = model.x0_of(denoiser, current.level, seen.x[-batch:], guided)
    gain *= model.x0_per_prediction(denoiser, current.level)
    sigma = model.sigma_of(denoiser, current.level)
    if state.wants_look(sigma):
        if seen.image_cond.shape[-1] > 1:
            state.stop_looking()
            run.handle.warn(look.NOT_WITH_INPAINTING)
        else:
            so_far, side = denoised + gain * delta, look.near_side(denoiser.p)
            look.look(lens_of(run, params), run.handle, state, so_far, sigma, denoiser.p.seeds[:batch], side)
    return state.hold(delta, denoised, gain)


def lens_of(run: Run, params: Any) -> look.Lens:
    """What this host lends to a look at this level."""
    current, inner_model = run.current, params.inner_model
    seen, denoiser = current.params, current.denoiser
    p, image_cond = denoiser.p, seen.image_cond[-len(seen.text_uncond) :]
    cfg_scale = min(float(denoiser.sampler.sampler_extra_args["cond_scale"]), close_look.CFG)

    def predict(x: Tensor, sigma: float) -> Tensor:
        def line(cond: Any) -> Tensor:
            given = model.cond_dict(cond, image_cond, 0, len(x))
            run.handle.identity_rows += len(x)
            return model.predict_x0(denoiser, inner_model, x.to(seen.x.dtype), sigma, given).float()

        hooks = BranchHooks(run.sites, run.branch, run.settings.weight)
        with as_its_class_has_it(run.unet, "forward"):
            with hooked(hooks.attach()):
                near = line(current.near_cond)
            hooks.check_fired()
            refuse_nan(near, sigma)
            if cfg_scale == 1:
                return near
            far = line(seen.text_uncond)
        return far + cfg_scale * (near - far)

    return look.Lens(lambda z: model.decode(p, z), lambda picture: model.encode(p, picture), predict, lambda: None)
