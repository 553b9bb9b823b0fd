"""The details of a refined head, which are finer than the autoencoder carries: they are added to the finished picture
(docs/method.md eq. 18)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from .decision import blur
from .head_refinement import CropBox, elliptical_mask, place

COARSE = 16.0  # px, the blur that separates details from the rest: two latent px
FACE = 0.28  # radius of the circle that gets details, of the square's side; with .42 a halo stood round the head
EPS = 1e-6
ANOTHER = 0.12  # mean difference of the coarse heads, of [0, 1]: from here on the picture shows another head


@dataclass(frozen=True, eq=False)
class DrawnHead:
    """A head as the refinement has drawn it.

    pixels: (3, side, side) in [-1, 1]. crop: its place in a picture of `size`, (height, width).
    image: which picture of the batch. strength: in [0, 1], how far the pass has held the head.
    """

    pixels: Tensor
    crop: CropBox
    size: tuple[int, int]
    image: int
    strength: float

    def add_to(self, picture: Tensor) -> None:
        """Give this head in a finished picture the details that it was drawn with, in place (docs/method.md eq. 18).

            picture + strength F (d - blur(E d) / blur(E)),    d = head - picture
            E: the refinement's circle; F: a smaller one, round the face

        Nothing changes outside F, nor where the picture has another size, or another head in this place.

        Args:
            picture: (3, H, W) in [0, 1].
        """
        size = (picture.shape[-2], picture.shape[-1])
        if size != self.size:
            return
        rows, columns = (span(at, self.crop.side, of) for at, of in zip((self.crop.y, self.crop.x), size, strict=True))
        window = picture[:, rows, columns]
        mask = elliptical_mask(self.crop, size, size)[:, rows, columns].to(window.device)
        drawn = (place(self.pixels.float(), self.crop, size)[:, rows, columns].to(window.device) + 1) / 2
        difference = drawn - window.float()
        coarse = blur((mask * difference)[:, None], COARSE)[:, 0] / blur(mask[None], COARSE)[0].clamp(min=EPS)
        if (coarse.abs().mean(0) * mask[0]).sum() <= ANOTHER * mask.sum():
            face = elliptical_mask(self.crop, size, size, FACE)[:, rows, columns].to(window.device)
            window.copy_((window.float() + self.strength * face * (difference - coarse)).clamp(0, 1))


def span(at: float, side: float, of: int) -> slice:
    """The px of the square within the picture."""
    return slice(max(math.floor(at - side / 2), 0), min(math.ceil(at + side / 2), of))


def finish_pictures(pictures: Tensor, heads: Iterable[DrawnHead]) -> None:
    """Add the details of all heads to a batch of finished pictures (B, 3, H, W) in [0, 1], in place."""
    for head in heads:
        if head.image < len(pictures):
            head.add_to(pictures[head.image])
