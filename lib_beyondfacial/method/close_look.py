"""A closer look: once in a pass the identity line sees the head from near, in pixels (docs/method.md eq. 13-15).

A full shot's head is a handful of latent pixels, too few for an adapter that has learnt from close-ups. So the picture
that the pass is heading for is decoded, a square round the head is enlarged to a picture of its own, the identity line
denoises that for a few steps, and the head is put back: x0 of the levels that follow is made it inside an oval.
This is ours and not the paper's; ADetailer's second pass is its relative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LOOKS = (2.5, 1.5, 0.9)  # a look at the first level at or below each, until every head has been found
VIEW = 1.7  # side of the square that is seen, in sides of the head's box
OVAL, EDGE = 0.42, 0.19  # the head's oval in that square: its radius by the square's side, its soft edge by the radius
STEPS, CURVE = 4, 1.5
NEARER = 2.0  # the near view starts at so many times the level's sigma
CFG = 4.0  # the most, from near
NEAR_PROMPT = "close-up portrait, {prompt}"
GRAIN = 64  # px: a near view's side is a multiple


@dataclass(frozen=True)
class View:
    """A square of a picture: its middle and its side, in px."""

    y: float
    x: float
    side: float


@dataclass(frozen=True, eq=False)
class Target:
    """What the look found: x0 (B, C, H, W), and where it counts (B, 1, H, W); both in fp32.

    held: of which pictures it is. seen: in which there is nothing more to look for (held, or near enough as they are).
    """

    denoised: Tensor
    mask: Tensor
    held: tuple[bool, ...]
    seen: tuple[bool, ...]

    def or_else(self, later: Target) -> Target:
        """This target, and of the pictures that it does not hold the later one's."""
        here = torch.tensor(self.held, device=self.mask.device)[:, None, None, None]
        return Target(
            torch.where(here, self.denoised, later.denoised),
            torch.where(here, self.mask, later.mask),
            tuple(a or b for a, b in zip(self.held, later.held, strict=True)),
            tuple(a or b for a, b in zip(self.seen, later.seen, strict=True)),
        )


def view_of(box: tuple[float, float, float, float], size: tuple[int, int]) -> View | None:
    """The square round a head's box (x0, y0, x1, y1) in px; None where the head is large enough as it is."""
    x0, y0, x1, y1 = box
    side = VIEW * max(x1 - x0, y1 - y0)
    return View((y0 + y1) / 2, (x0 + x1) / 2, side) if 0 < side < min(size) else None


def looks_due(sigma: float) -> int:
    """How many looks there should have been by this level."""
    return sum(sigma <= each for each in LOOKS)


def near_side(size: tuple[int, int], most: int) -> int:
    """The near view's side in px, for a picture of `size` and a model that knows pictures of `most` px best."""
    side = min(*size, most)
    return side - side % GRAIN if side >= GRAIN else side


def enlarge(picture: Tensor, view: View, side: int) -> Tensor:
    """The view as a picture of its own: (3, H, W) -> (3, side, side). Beyond the edge the edge goes on."""
    height, width = picture.shape[-2:]
    square = [
        [view.side / width, 0, 2 * view.x / width - 1],
        [0, view.side / height, 2 * view.y / height - 1],
    ]
    grid = F.affine_grid(picture.new_tensor(square)[None], [1, 3, side, side], align_corners=False)
    return F.grid_sample(picture[None], grid, "bicubic", "border", align_corners=False)[0]


def put_back(picture: Tensor, near: Tensor, view: View) -> Tensor:
    """The picture with the near view (3, side, side) in its place again, inside the oval."""
    height, width = picture.shape[-2:]
    small = max(1, round(view.side))
    near = F.interpolate(near[None], (small, small), mode="bicubic", antialias=True, align_corners=False)
    back = [
        [width / view.side, 0, (width - 2 * view.x) / view.side],
        [0, height / view.side, (height - 2 * view.y) / view.side],
    ]
    grid = F.affine_grid(picture.new_tensor(back)[None], [1, 3, height, width], align_corners=False)
    there = F.grid_sample(near, grid, "bicubic", "border", align_corners=False)[0]
    return torch.lerp(picture, there, oval(view, (height, width), (height, width)).to(picture))


def encode_closely(picture: Tensor, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> Tensor:
    """The latents (C, h, w) of a picture (3, H, W) in [-1, 1], moved by what the way through the autoencoder loses.

    decode: (C, h, w) -> (3, H, W) in [-1, 1].
    """
    z = encode(picture)
    return z + (z - encode(decode(z)))


def oval(view: View, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Where the head counts, on a grid laid over a picture of `size`: 1 inside, 0 outside the oval, (1, h, w)."""
    y, x = ((torch.arange(n) + 0.5) * side / n for n, side in zip(grid, size, strict=True))
    distance = ((y[:, None] - view.y) ** 2 + (x[None] - view.x) ** 2).sqrt() / (OVAL * view.side)
    return ((1 + EDGE - distance) / EDGE).clamp(0, 1)[None]


def near_sigmas(sigma: float) -> list[float]:
    """The levels of the near view down to 0; the first is high enough for a head to become another."""
    first = max(NEARER * sigma, LOOKS[0])
    return [first * (1 - k / STEPS) ** CURVE for k in range(STEPS)] + [0.0]


def settle(predict: Callable[[Tensor, float], Tensor], z: Tensor, noise: Tensor, sigmas: list[float]) -> Tensor:
    """Euler's steps from z + sigma noise down the levels: the near view's latents, (B, C, h, w).

    predict: (x, sigma) -> x0 behind CFG. noise: unit variance, of a generator of our own.
    """
    x = z + sigmas[0] * noise
    for sigma, after in zip(sigmas, sigmas[1:], strict=False):
        denoised = predict(x, sigma)
        x = denoised + (after / sigma) * (x - denoised)
    return x
