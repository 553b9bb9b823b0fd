"""The enlarged crops of a head refinement: denoised together, encoded with the picture (docs/method.md eq. 13-14)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..faces.face import Face
from ..method import head_refinement as eq
from ..method.head_refinement import CropBox, RefinedHeads
from .host import Host

REDRAWING = "BeyondFacial redraws the head, step {} of {}"
Predict = Callable[[Tensor, float], Tensor]
Spot = tuple[str, int]  # a line's name, and which picture of the batch


class NoPictureError(Exception):
    """The autoencoder gave numbers that are not finite."""


class InterruptError(Exception):
    """The user has pressed interrupt or skip; the host ends the sampling at its next level."""


@dataclass(frozen=True, eq=False)
class HeadsToRefine:
    """The heads that one search found: by picture, the decoded picture; by line and picture, the face, and the square
    to cut out.

    done: by line and picture, whether it needs no further search once these heads are refined.
    """

    pictures: Mapping[int, Tensor]
    faces: Mapping[Spot, Face]
    crops: Mapping[Spot, CropBox]
    done: Mapping[str, tuple[bool, ...]]

    def landmarks_of(self, line: str, image: int) -> np.ndarray | None:
        """The face in a line's crop of a picture: (5, 2) x, y as shares of the crop's side; None without a crop."""
        crop = self.crops.get((line, image))
        if crop is None:
            return None
        corner = np.array([crop.x - crop.side / 2, crop.y - crop.side / 2])
        return (self.faces[line, image].landmarks - corner) / crop.side


def encode_heads(
    host: Host, pictures: Mapping[int, Tensor], kept: Sequence[Spot], heads: HeadsToRefine, like: Tensor
) -> RefinedHeads:
    """The target of eq. 14.

    Args:
        pictures: with the redrawn heads. kept: which these are. like: the batch's latents (B, C, H, W).
    """
    target = torch.zeros_like(like, dtype=torch.float32)
    ellipses = {name: torch.zeros_like(target[:, :1]) for name in heads.done}
    for i, picture in pictures.items():
        target[i] = eq.encode_compensated(
            picture, lambda y: require_finite(host.encode_image(y)), lambda z: decode(host, z)
        )
    grid = (like.shape[-2], like.shape[-1])
    for name, i in kept:
        size = (pictures[i].shape[-2], pictures[i].shape[-1])
        ellipses[name][i] = eq.elliptical_mask(heads.crops[name, i], size, grid).to(target)
    refined = {name: tuple((name, i) in kept for i in range(len(like))) for name in heads.done}
    return RefinedHeads(target, ellipses, refined, heads.done)


def denoise_crops(
    host: Host, predict: Predict, heads: HeadsToRefine, sigma: float, seeds: Mapping[Spot, int], side: int
) -> dict[Spot, Tensor]:
    """The heads as the identity lines redraw them, (3, side, side); all crops are denoised together.

    Args:
        predict: (x, sigma) -> the identity lines' x0 behind CFG, a row for every line and picture.
        seeds: of each row's noise, which is drawn from separate generators, so the host's random state stays.
        side: px of the enlarged crops.
    """
    enlarged = {
        spot: eq.crop_resize(heads.pictures[spot[1]], crop, side).clamp(-1, 1) for spot, crop in heads.crops.items()
    }
    encoded = {spot: require_finite(host.encode_image(picture)) for spot, picture in enlarged.items()}
    blank = torch.zeros_like(next(iter(encoded.values())))
    z = torch.stack([encoded.get(spot, blank) for spot in seeds])
    generators = [torch.Generator().manual_seed(int(seed) % 2**63) for seed in seeds.values()]
    noise = torch.stack([torch.randn(z.shape[1:], generator=each) for each in generators]).to(z)
    host.load_unet()
    sigmas = host.law.refine_sigmas(sigma)
    start = host.law.noised(z, noise, sigmas[0])
    refined = eq.sample_euler(watched_steps(host, predict, sigmas), start, sigmas)
    return {spot: decode(host, latents) for spot, latents in zip(seeds, refined, strict=True) if spot in heads.crops}


def watched_steps(host: Host, predict: Predict, sigmas: Sequence[float]) -> Predict:
    """Before every step show which one it is, and check whether the user has interrupted; then InterruptError."""

    def step(x: Tensor, sigma: float) -> Tensor:
        if host.is_interrupted():
            raise InterruptError
        host.show_progress(REDRAWING.format(sigmas.index(sigma) + 1, len(sigmas) - 1))
        return predict(x, sigma)

    return step


def decode(host: Host, latents: Tensor) -> Tensor:
    """The picture (3, H, W) in [-1, 1] of latents (C, h, w)."""
    return require_finite(host.decode_latents(latents[None])).clamp(-1, 1)


def require_finite(x: Tensor) -> Tensor:
    """An autoencoder's output in fp32; NoPictureError if it is not finite."""
    if not torch.isfinite(x).all():
        raise NoPictureError
    return x.float()
