"""Head refinement: once in a pass the identity line draws the head large, in pixels (docs/method.md eq. 13-15).

In a full shot the head covers a few latent pixels, too few for an adapter that was trained on close-ups. The pass
therefore decodes its present x0, enlarges a square around the head, lets the identity line denoise this crop for a few
steps, and pastes it back. From then on, x0 inside an ellipse is held at the result. The paper has no such part; it is
similar to ADetailer's second pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import resampling_device
from .start_noise import Box

REFINE_AT = (1.6, 1.0, 0.6)  # sigmas: at the first level at or below each, heads are searched for until all are found
CROP = 1.7  # side of the square that is cut out, in sides of the head's box; at most the picture's shorter side
LARGEST = 0.8  # of the picture's shorter side: a larger head has no room for a square around it
RADIUS, EDGE = 0.36, 0.19  # the ellipse: its radius as a share of the square's side, its soft edge of the radius
MARGIN = 3  # latent px around the square, of the part of the picture that is encoded again
LOSS_BLUR = 2.0  # latent px: what the autoencoder loses on a window is a shift of colours, smooth over the picture
STEPS, CURVE = 5, 1.5
ENCODE_SHRINK = 2  # the enlarged crop is encoded at half its side, as the noise hides what is finer
CROP_SIGMA = 5.0  # of the crop's first step: its head is large, and can still become another one
MAX_CFG, GUIDED_TO = 4.0, 2.0  # the CFG scale; below this sigma it is 1, which costs one row in place of two
REFINE_PROMPT = "close-up portrait, {prompt}"


@dataclass(frozen=True)
class CropBox:
    """A square of a picture: its centre and its side, in px."""

    y: float
    x: float
    side: float


@dataclass(frozen=True, eq=False)
class RefinedHeads:
    """The refined heads of a batch: their x0 (B, C, H, W), and by line the ellipses to use it in (B, 1, H, W); fp32.

    refined: by line and picture, whether this person's head was refined there.
    done: by line and picture, whether it needs no refinement any more (refined, or the head fills the picture).
    """

    denoised: Tensor
    ellipses: Mapping[str, Tensor]
    refined: Mapping[str, tuple[bool, ...]]
    done: Mapping[str, tuple[bool, ...]]

    @property
    def mask(self) -> Tensor:
        """All ellipses together, (B, 1, H, W)."""
        return torch.stack(list(self.ellipses.values())).amax(0)

    @property
    def in_pictures(self) -> tuple[bool, ...]:
        """Per picture, whether a head was refined."""
        return tuple(any(of_image) for of_image in zip(*self.refined.values(), strict=True))

    def is_refined(self, line: str) -> Tensor:
        """`refined` of a line as a tensor (B, 1, 1, 1)."""
        return torch.tensor(self.refined[line], device=self.denoised.device)[:, None, None, None]

    def open_masks(self, masks: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The lines' masks of eq. 8: 0 in pictures in which the line's head is refined."""
        return {name: torch.where(self.is_refined(name), torch.zeros_like(mask), mask) for name, mask in masks.items()}

    def replace_masks(self, masks: Mapping[str, Tensor], strength: float) -> Mapping[str, Tensor]:
        """The lines' masks; in pictures with a refined head the ellipse instead."""
        return {
            name: torch.where(self.is_refined(name), ellipse * strength, masks.get(name, torch.zeros_like(ellipse)))
            for name, ellipse in self.ellipses.items()
        }

    def merge(self, later: RefinedHeads) -> RefinedHeads:
        """These heads, and where there are none yet, the later ones."""

        def either(
            one: Mapping[str, tuple[bool, ...]], other: Mapping[str, tuple[bool, ...]]
        ) -> dict[str, tuple[bool, ...]]:
            return {name: tuple(a or b for a, b in zip(one[name], other[name], strict=True)) for name in one}

        return RefinedHeads(
            torch.where((later.mask > 0) & (self.mask == 0), later.denoised, self.denoised),
            {name: torch.maximum(ellipse, later.ellipses[name]) for name, ellipse in self.ellipses.items()},
            either(self.refined, later.refined),
            either(self.done, later.done),
        )


def attempts_due(sigma: float) -> int:
    """How many searches for heads are due at this level or before."""
    return sum(sigma <= each for each in REFINE_AT)


def apply_target(  # noqa: PLR0913  the equation's own parameters
    delta: Tensor,
    heads: RefinedHeads | None,
    denoised: Tensor,
    guidance: float,
    strength: float = 1.0,
    rho: float = 1.0,
) -> Tensor:
    """The delta that makes x0 behind CFG equal to the refined head inside its ellipse (docs/method.md eq. 15).

        delta = rho * strength * mask * (heads - denoised) / guidance        inside the ellipses

    Args:
        delta: (B, C, H, W) fp32, of eq. 8; kept in pictures in which not every line's head is refined, outside them.
        denoised: the semantic line's x0 behind CFG.
        guidance: by how much that x0 changes with delta: the CFG scale.
        strength: the mask strength.
    """
    if heads is None or guidance == 0 or not any(heads.in_pictures):
        return delta
    mask = heads.mask * strength
    is_all = torch.stack([heads.is_refined(line) for line in heads.refined]).all(0)
    difference = heads.denoised.float() - denoised.float()
    pull = torch.where(mask > 0, rho * mask * difference, torch.zeros_like(difference)) / guidance
    return torch.where(is_all | (mask > 0), pull, delta)


def crop_around(box: tuple[float, float, float, float], size: tuple[int, int]) -> CropBox | None:
    """The square around a head's box (x0, y0, x1, y1) in px; None if the head fills the picture."""
    x0, y0, x1, y1 = box
    head, shorter = max(x1 - x0, y1 - y0), min(size)
    if not 0 < head <= LARGEST * shorter:
        return None
    return CropBox((y0 + y1) / 2, (x0 + x1) / 2, min(CROP * head, float(shorter)))


def crop_resize(picture: Tensor, crop: CropBox, side: int) -> Tensor:
    """Cut the square out and resize it, border-replicated: (3, H, W) -> (3, side, side)."""
    height, width = picture.shape[-2:]
    device, picture = picture.device, picture.to(resampling_device(picture.device))
    square = [
        [crop.side / width, 0, 2 * crop.x / width - 1],
        [0, crop.side / height, 2 * crop.y / height - 1],
    ]
    grid = F.affine_grid(picture.new_tensor(square)[None], [1, 3, side, side], align_corners=False)
    return F.grid_sample(picture[None], grid, "bicubic", "border", align_corners=False)[0].to(device)


def place(refined: Tensor, crop: CropBox, size: tuple[int, int]) -> Tensor:
    """The refined crop (3, side, side) at its place in a picture of size (height, width), its border replicated."""
    height, width = size
    small = max(1, round(crop.side))
    device, refined = refined.device, refined.to(resampling_device(refined.device))
    refined = F.interpolate(refined[None], (small, small), mode="bicubic", antialias=True, align_corners=False)
    back = [
        [width / crop.side, 0, (width - 2 * crop.x) / crop.side],
        [0, height / crop.side, (height - 2 * crop.y) / crop.side],
    ]
    grid = F.affine_grid(refined.new_tensor(back)[None], [1, 3, height, width], align_corners=False)
    return F.grid_sample(refined, grid, "bicubic", "border", align_corners=False)[0].to(device)


def paste(picture: Tensor, refined: Tensor, crop: CropBox) -> Tensor:
    """The picture (3, H, W) with the refined crop (3, side, side) pasted over its square, inside the ellipse."""
    size = (picture.shape[-2], picture.shape[-1])
    return torch.lerp(picture, place(refined, crop, size), elliptical_mask(crop, size, size).to(picture))


def window_around(crop: CropBox, size: tuple[int, int], grid: tuple[int, int]) -> Box:
    """The part of the latents that holds the square, with a margin; size: (height, width) in px of the picture."""
    factors = [g / s for g, s in zip(grid, size, strict=True)]
    (top, bottom), (left, right) = (
        (max(math.floor((at - crop.side / 2) * f) - MARGIN, 0), min(math.ceil((at + crop.side / 2) * f) + MARGIN, g))
        for at, f, g in zip((crop.y, crop.x), factors, grid, strict=True)
    )
    return Box(top, left, bottom, right)


def elliptical_mask(crop: CropBox, size: tuple[int, int], grid: tuple[int, int], radius: float = RADIUS) -> Tensor:
    """A circle around the head with a soft edge, for a picture of `size`, on a grid: (1, h, w) in [0, 1].

    The grid may be the picture's own or the latents'; there the circle may be an ellipse. radius: a share of the side.
    """
    y, x = ((torch.arange(n) + 0.5) * side / n for n, side in zip(grid, size, strict=True))
    distance = ((y[:, None] - crop.y) ** 2 + (x[None] - crop.x) ** 2).sqrt() / (radius * crop.side)
    return ((1 + EDGE - distance) / EDGE).clamp(0, 1)[None]


def guidance_at(sigma: float, cfg_scale: float) -> float:
    """The CFG scale of one level of the refinement: at low noise none, as guidance in a limited interval (2404.07724).

    Args:
        cfg_scale: of the pass.
    """
    return min(cfg_scale, MAX_CFG) if sigma >= GUIDED_TO else 1.0


def rows_of_a_head(cfg_scale: float = MAX_CFG) -> int:
    """How many rows of the UNet one head's refinement has."""
    levels = VarianceExploding().refine_sigmas()[:-1]
    return sum(1 if guidance_at(sigma, cfg_scale) == 1 else 2 for sigma in levels)


class VarianceExploding:
    """NoiseLaw of latents x0 + sigma noise, as k-diffusion has them for every variance-preserving model."""

    def noised(self, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
        return x0 + sigma * noise

    def refine_sigmas(self) -> list[float]:
        """The levels down to 0; the first is so high that the head can change its identity."""
        return [CROP_SIGMA * (1 - k / STEPS) ** CURVE for k in range(STEPS)] + [0.0]


def sample_euler(predict: Callable[[Tensor, float], Tensor], x: Tensor, sigmas: list[float]) -> Tensor:
    """Sample with Euler steps: latents (B, C, h, w) at sigmas[0] -> x0.

    predict: (x, sigma) -> x0 behind CFG.
    """
    for sigma, after in zip(sigmas, sigmas[1:], strict=False):
        denoised = predict(x, sigma)
        x = denoised + (after / sigma) * (x - denoised)
    return x
