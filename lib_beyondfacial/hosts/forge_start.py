"""Identity Aggregation Prepending in a Forge: the sampler's start, edited in place (docs/method.md section 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..method.engine import Readings
from ..method.prepend import Box
from . import forge_model as model
from . import words
from .forge_pass import Run
from .start import boxes_of, edit_latent, find_scale, first_conds, pixels_per_latent, reference_latent
from .unet_sites import RowLedger, hooked


def edit_start(p: Any, run: Run, sampler: Any) -> None:
    """Replace the low band of each image's start inside its head box by the reference head's (eq. 11)."""
    start = sampler.last_latent
    if start is None or run.noise is None or run.noise.shape != start.shape:
        run.handle.warn("BeyondFacial: the start of this sampler could not be found; it was left as it is.")
        return
    scale = find_scale(run.noise, start)
    height, width = start.shape[-2:]
    factor, crop = pixels_per_latent(p.width, width), run.handle.plan.identity.crop

    def reference(box: Box) -> Tensor:
        return reference_latent(lambda picture: model.encode_picture(p, picture), crop, box, (height, width), factor)

    boxes = look_ahead(p, run, sampler)
    run.handle.boxes += edit_latent(start, scale, boxes, reference, run.settings.idap_strength)
    model.load_unet(p, start)  # where memory is short, the VAE has taken its place


def look_ahead(p: Any, run: Run, sampler: Any) -> list[Box]:
    """Where each image will put its head: one step of the semantic line with the head probe, else the prior."""
    start = sampler.last_latent
    batch, size = len(start), tuple(start.shape[-2:])
    extra = sampler.sampler_extra_args
    cond = first_conds(extra["cond"])
    first = max(run.levels) if run.levels else float(model.sigmas_of(p)[-1])
    # Timestep samplers keep their latents at unit variance; the model call wants them at sigma's.
    x = start * (1 + first**2) ** 0.5 if hasattr(sampler, "get_timesteps") else start
    probe = run.current.probe  # type: ignore[union-attr]
    with torch.no_grad(), hooked(probe.attach(RowLedger(batch))):
        sigma = torch.full((batch,), first, device=start.device, dtype=start.dtype)
        model.predict(p, cond, extra["image_cond"], x, sigma)
    run.handle.identity_rows += batch
    readings = Readings(head=probe.result(words.HEAD), person=probe.result(words.PERSON))
    return boxes_of(readings, batch, size)
