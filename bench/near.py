"""The closer look (lib_beyondfacial/method/close_look.py) as a row of the table, on the embedded host.

Laid over the product's own pass for one batch: at the first level at or below LOOK the picture is decoded, the head is
looked for by the feeding pack's detector, and the levels down to LET_GO are drawn to what the near view became.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.replacing import replaced
from demo.dollhouse.train.place import SHIPPED
from lib_beyondfacial.faces.analysis import get_analyser
from lib_beyondfacial.hosts import a1111_model, a1111_pass, words
from lib_beyondfacial.hosts.unet_sites import BranchHooks, hooked
from lib_beyondfacial.method import close_look, engine
from lib_beyondfacial.method.close_look import Target, View
from lib_beyondfacial.method.engine import RunState
from lib_beyondfacial.method.prepend import box_of_region, prior_box

FEED = SHIPPED / "models" / "insightface" / "models" / "dollhouse"
NEAR_PROMPT = "close-up portrait, {prompt}"
NEAR_WEIGHT, NEAR_CFG = 1.0, 4.0


def head_of(picture: Tensor, region: Tensor) -> tuple[float, float, float, float]:
    """The head's box in px: of the faces that the detector finds the one where attention is strongest; where it finds
    none, attention's own box."""
    height, width = picture.shape[-2:]
    h, w = region.shape
    image = ((picture.permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    boxes = [tuple(map(float, face.box)) for face in get_analyser(FEED).find(image)]
    boxes = [box for box in boxes if close_look.view_of(box, (height, width)) is not None]

    def attention(box: tuple[float, ...]) -> float:
        y, x = (box[1] + box[3]) / 2 * h / height, (box[0] + box[2]) / 2 * w / width
        return float(region[min(max(int(y), 0), h - 1), min(max(int(x), 0), w - 1)])

    if boxes:
        return max(boxes, key=attention)  # type: ignore[return-value]
    box = box_of_region(region, engine.GATE_CENTRE) or prior_box(h, w)
    fy, fx = height / h, width / w
    return box.left * fx, box.top * fy, box.right * fx, box.bottom * fy


def look(run: Any, inner_model: Any, denoised: Tensor) -> Target:
    """What the head becomes when it is seen from near."""
    current = run.current
    seen, p = current.params, current.denoiser.p
    model, batch, size = p.sd_model, len(denoised), denoised.shape[-2:]
    pictures = model.decode_first_stage(denoised)
    full, side = pictures.shape[-2:], min(pictures.shape[-2:])

    def encoded(each: list[Tensor]) -> Tensor:
        return model.scale_factor * model.encode_first_stage(torch.stack(each).clamp(-1, 1)).mode()

    views: list[View] = []
    for picture, region in zip(pictures, current.state.region[:, 0], strict=True):
        found = close_look.view_of(head_of(picture, region), full)
        views.append(found or View(full[0] / 2, full[1] / 2, side))
    z = encoded([close_look.enlarge(picture, view, side) for picture, view in zip(pictures, views, strict=True)])
    noise = torch.stack(
        [torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(s)) for s in p.seeds[:batch]]
    )
    cond = words.encode(p, [NEAR_PROMPT.replace("{prompt}", prompt) for prompt in p.prompts])

    def predict(x: Tensor, sigma: float) -> Tensor:
        level = torch.full((batch,), sigma)
        with hooked(BranchHooks(run.sites, run.branch, NEAR_WEIGHT).attach()):
            near = inner_model(x, level, cond=a1111_model.cond_dict(cond, seen.image_cond, 0, batch))
        far = inner_model(x, level, cond=a1111_model.cond_dict(seen.text_uncond, seen.image_cond, 0, batch))
        return far + NEAR_CFG * (near - far)

    near = model.decode_first_stage(close_look.settle(predict, z, noise, close_look.near_sigmas(current.level)))
    each = zip(pictures, near.clamp(-1, 1), views, strict=True)
    target = encoded([close_look.put_back(picture, one, view) for picture, one, view in each])
    return Target(target.float(), torch.stack([close_look.oval(view, full, size) for view in views]))


@contextmanager
def closer_look(boxes: list) -> Iterator[None]:
    """One look a pass; x0-space samplers alone."""
    evaluate, mask_of = a1111_pass.evaluate_identity, RunState._adaptive_mask
    found: list[Target] = []
    held = [False]

    def evaluating(run: Any, inner_model: Any, uncond: Tensor, weights: list) -> Any:
        identity, energy = evaluate(run, inner_model, uncond, weights)
        current = run.current
        state, level, scale = current.state, current.level, current.denoiser.p.cfg_scale
        if uncond is None or hasattr(current.denoiser.sampler, "get_timesteps"):
            raise RuntimeError("the closer look is written for samplers that count in sigmas, at a CFG above 1")
        if not found and level <= close_look.LOOK and state.fused_mask is not None:
            semantic = uncond._base[: len(uncond)]  # the host's rows: cond first
            fused = semantic + state.fused_mask * (identity - semantic)
            found.append(look(run, inner_model, uncond + scale * (fused - uncond)))
        held[0] = bool(found) and level >= close_look.LET_GO
        if held[0]:
            identity = close_look.aim(found[0].denoised, uncond, scale)
        return identity, energy

    def mask(self: RunState, *args: Any) -> Tensor:
        own = mask_of(self, *args)
        return found[0].mask if held[0] else own

    with replaced(a1111_pass, "evaluate_identity", evaluating), replaced(RunState, "_adaptive_mask", mask):
        yield
