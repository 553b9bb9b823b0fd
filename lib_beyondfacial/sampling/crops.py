"""The enlarged crops of a head refinement: denoised together, encoded in their place (docs/method.md eq. 13-14)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.face import Face
from ..method import head_refinement as eq
from ..method.decision import blur
from ..method.head_refinement import CropBox, RefinedHeads
from .autoencoder import decode_each, encode_each
from .host import Host

REDRAWING = "BeyondFacial redraws the head, step {} of {}"
Predict = Callable[[Tensor, float], Tensor]
Spot = tuple[str, int]  # a line's name, and which picture of the batch


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
    """The target of eq. 14, of which only the windows around the heads are encoded.

    Args:
        pictures: with the redrawn heads. kept: which these are. like: the pass's x0 (B, C, H, W), of which
            heads.pictures are decoded.
    """
    target, grid = like.float().clone(), (like.shape[-2], like.shape[-1])
    ellipses = {name: torch.zeros_like(target[:, :1]) for name in heads.done}
    windows, before, after = {}, {}, {}
    for name, i in kept:
        crop, size = heads.crops[name, i], (pictures[i].shape[-2], pictures[i].shape[-1])
        ellipses[name][i] = eq.elliptical_mask(crop, size, grid).to(target)
        windows[name, i] = window = eq.window_around(crop, size, grid)
        before[name, i, "before"] = window.cut(heads.pictures[i], size[1] // grid[1])
        after[name, i, "after"] = window.cut(pictures[i], size[1] // grid[1])
    z = encode_each(host, {**before, **after}, area_of(heads))
    for (name, i), window in windows.items():
        inside, part = window.cut(ellipses[name][i]) > 0, window.cut(target[i])
        lost = window.cut(like[i]).float() - z[name, i, "before"].to(target)
        head = z[name, i, "after"].to(target) + blur(lost[:, None], eq.LOSS_BLUR)[:, 0]
        part.copy_(torch.where(inside, head, part))
    refined = {name: tuple((name, i) in kept for i in range(len(like))) for name in heads.done}
    return RefinedHeads(target, ellipses, refined, heads.done)


def denoise_crops(
    host: Host, predict: Predict, heads: HeadsToRefine, seeds: Mapping[Spot, int], side: int
) -> dict[Spot, Tensor]:
    """The heads as the identity lines redraw them, (3, side, side); all crops are denoised together.

    Args:
        predict: (x, sigma) -> the identity lines' x0 behind CFG, a row for every crop, in their order.
        seeds: of each crop's noise, which is drawn from separate generators, so the host's random state stays.
        side: px of the enlarged crops.
    """
    small = {
        spot: eq.crop_resize(heads.pictures[spot[1]], crop, side // eq.ENCODE_SHRINK).clamp(-1, 1)
        for spot, crop in heads.crops.items()
    }
    z = torch.stack(list(encode_each(host, small, area_of(heads)).values()))
    z = F.interpolate(z, scale_factor=eq.ENCODE_SHRINK, mode="bicubic", align_corners=False)
    generators = [torch.Generator().manual_seed(int(seeds[spot]) % 2**63) for spot in heads.crops]
    noise = torch.stack([torch.randn(z.shape[1:], generator=each) for each in generators]).to(z)
    host.load_unet()
    sigmas = host.law.refine_sigmas()
    start = host.law.noised(z, noise, sigmas[0])
    refined = eq.sample_euler(watched_steps(host, predict, sigmas), start, sigmas)
    factor = side // z.shape[-1]
    return decode_each(host, dict(zip(heads.crops, refined, strict=True)), area_of(heads) // factor**2)


def area_of(heads: HeadsToRefine) -> int:
    """The px of a whole picture, which the autoencoder has decoded already: more it gets in no call."""
    return max((picture[0].numel() for picture in heads.pictures.values()), default=0)


def watched_steps(host: Host, predict: Predict, sigmas: Sequence[float]) -> Predict:
    """Before every step show which one it is, and check whether the user has interrupted; then InterruptError."""

    def step(x: Tensor, sigma: float) -> Tensor:
        if host.is_interrupted():
            raise InterruptError
        made, of = sigmas.index(sigma), len(sigmas) - 1
        host.show_progress(REDRAWING.format(made + 1, of), made / of)
        return predict(x, sigma)

    return step
