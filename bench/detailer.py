"""A detailer's pass, as ADetailer and its kin make it: the finished picture's faces are cut out enlarged, redrawn with
the identity in the one line, and pasted back in pixels.

With a denoising strength it is sampled as web UIs sample img2img: the picture's own prompt, sampler and CFG scale, and
the last of its steps. Without one it has all that the method's own head refinement has (its prompt, its CFG scale, its
five steps from its noise level), so that what is left of a difference is that the method acts within the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from demo.sd1 import solvers
from lib_beyondfacial.faces.face import Face
from lib_beyondfacial.method import head_refinement as eq
from lib_beyondfacial.sampling.faces_in_picture import box_of, to_image
from lib_beyondfacial.sampling.plan import IdentityLine, Plan
from lib_beyondfacial.unet.rows import ALL_ROWS, LineRows
from lib_beyondfacial.unet.sites import enumerate_sites


@dataclass(frozen=True)
class Recipe:
    """How crops are redrawn.

    guidance: the CFG scale at a sigma. sigmas: from the one that they are noised to down to 0. solve: of demo.sd1.
    """

    prompt: str = eq.REFINE_PROMPT
    guidance: Callable[[float], float] = partial(eq.guidance_at, cfg_scale=eq.MAX_CFG)
    sigmas: tuple[float, ...] = tuple(eq.VarianceExploding().refine_sigmas())
    solve: Callable[..., Tensor] = solvers.euler


def img2img_recipe(strength: float, steps: int, cfg_scale: float) -> Recipe:
    """As web UIs sample img2img with DPM++ 2M Karras: of `steps` noise levels the last strength x steps + 1."""
    from modules import shared

    levels = solvers.CompVisDenoiser(shared.sd_model).sigmas
    sigmas = solvers.karras_sigmas(steps, levels[0].item(), levels[-1].item()).tolist()
    last = tuple(sigmas[steps - int(strength * steps) - 1 :])
    return Recipe("{prompt}", lambda sigma: cfg_scale, last, solvers.dpmpp_2m)


@torch.no_grad()
def detail(
    plan: Plan, images: Sequence[np.ndarray], prompts: Sequence[str], seeds: Sequence[int], recipe: Recipe
) -> list[np.ndarray]:
    """The pictures with their faces redrawn.

    Args:
        plan: one line redraws every face of its picture; of several the k-th redraws the k-th face from the left.
        images: RGB uint8 (H, W, 3).
    """
    pictures = [torch.from_numpy(image.copy()).permute(2, 0, 1) / 127.5 - 1 for image in images]
    faces = [sorted(plan.find_faces(image), key=lambda face: float(face.box[0] + face.box[2])) for image in images]
    lines, most = plan.lines, max(map(len, faces), default=0)
    for k in range(most if len(lines) == 1 else min(most, len(lines))):
        of_this = {i: each[k] for i, each in enumerate(faces) if k < len(each)}
        texts = {i: recipe.prompt.format(prompt=prompts[i]) for i in of_this}
        redraw(lines[k if len(lines) > 1 else 0], pictures, of_this, texts, seeds, recipe)
    return [to_image(picture) for picture in pictures]


def redraw(
    line: IdentityLine,
    pictures: list[Tensor],
    faces: Mapping[int, Face],
    texts: Mapping[int, str],
    seeds: Sequence[int],
    recipe: Recipe,
) -> None:
    """Replace the pictures that have a face (by index) by those with this face redrawn; large faces stay."""
    from modules import shared

    model, side = shared.sd_model, min(pictures[0].shape[-2:])
    found = {i: eq.crop_around(box_of(face), (side, pictures[i].shape[-1])) for i, face in faces.items()}
    crops = {i: crop for i, crop in found.items() if crop is not None}
    if not crops:
        return
    device = next(model.model.parameters()).device
    enlarged = torch.stack([eq.crop_resize(pictures[i], crop, side).clamp(-1, 1) for i, crop in crops.items()])
    z = model.scale_factor * model.encode_first_stage(enlarged.to(device)).mode()
    noise = torch.stack([torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(seeds[i])) for i in crops])
    predict = make_predictor(line, [texts[i] for i in crops], tuple(crops), recipe.guidance)
    sigmas = z.new_tensor(recipe.sigmas)
    drawn = recipe.solve(predict, z + sigmas[0] * noise.to(z), sigmas, None, lambda step: None, 0.0)
    for (i, crop), latents in zip(crops.items(), drawn, strict=True):
        head = model.decode_first_stage(latents[None])[0].cpu().clamp(-1, 1)
        pictures[i] = eq.paste(pictures[i], head, crop).clamp(-1, 1)


def make_predictor(
    line: IdentityLine, texts: Sequence[str], images: tuple[int, ...], guidance: Callable[[float], float]
) -> Callable[[Tensor, Tensor], Tensor]:
    """(x, sigmas) -> x0 behind CFG, with the identity in the rows of the prompt; images: whose rows these are."""
    from modules import shared

    model = shared.sd_model
    denoiser = solvers.CompVisDenoiser(model)
    cond, uncond = (model.get_learned_conditioning(list(each)) for each in (texts, [""] * len(texts)))
    sites, rows = enumerate_sites(model.model.diffusion_model), LineRows(ALL_ROWS, images, (1.0,) * len(images))

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        blank = x.new_zeros(len(x), 5, 1, 1)
        scale = guidance(float(sigma.flatten()[0]))
        with line.attached(sites, rows):
            with_identity = denoiser(x, sigma, {"c_crossattn": [cond], "c_concat": [blank]})
        if scale == 1:
            return with_identity
        without = denoiser(x, sigma, {"c_crossattn": [uncond], "c_concat": [blank]})
        return without + scale * (with_identity - without)

    return predict
