"""The closer look, the part that no host does its own way (docs/method.md section 3b): the head is found in the
picture so far, seen from near by the identity line, and put back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BeyondFacialError
from ..method import close_look
from ..method.close_look import Target, View

if TYPE_CHECKING:
    from ..method.engine import RunState
    from .plan import RunHandle

Box = tuple[float, float, float, float]
NO_PICTURE = (
    "BeyondFacial: the VAE gave NaN when the closer look asked for the picture so far, so there was no closer look; "
    "run the VAE in full precision (--no-half-vae)."
)
NOT_WITH_INPAINTING = (
    "BeyondFacial: with an inpainting model there is no closer look, as such a model is shown the whole picture; "
    "choose an ordinary checkpoint for it."
)
KNOWN_SIDE, KNOWN_SIDE_SDXL = 768, 1024  # px that the models draw heads well at


@dataclass(frozen=True)
class Lens:
    """What a host lends to a look.

    decode: scaled latents (1, C, h, w) -> picture (3, H, W) in about [-1, 1]; encode: the way back, (C, h, w).
    predict: (x, sigma) -> the near view's x0 behind CFG; the identity line on the near prompts. x = x0 + sigma noise.
    ready: brings the UNet back where the VAE has taken its place.
    """

    decode: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    predict: Callable[[Tensor, float], Tensor]
    ready: Callable[[], None]


class NoPictureError(Exception):
    """The VAE's answer is of no use."""


class LeftOffError(Exception):
    """The user has pressed interrupt or skip: the host ends the sampling at its next level."""


def finite(x: Tensor) -> Tensor:
    """What a VAE gave, in fp32."""
    if not torch.isfinite(x).all():
        raise NoPictureError
    return x.float()


def near_side(p: Any) -> int:
    """The near view's side in px, for all passes of a request."""
    known = KNOWN_SIDE_SDXL if getattr(p.sd_model, "is_sdxl", False) else KNOWN_SIDE
    return close_look.near_side((p.height, p.width), known)


def head_of(picture: Tensor, region: Tensor, find_faces: Callable[[np.ndarray], list]) -> Box | None:
    """The head's box in px: of the faces that are found the one where attention is strongest; None without a face.

    Faces that are found with a border round the picture alone do not count: with nothing else to be seen, detectors
    take the picture as such for one.

    Args:
        picture: (3, H, W) in about [-1, 1].
        region: (h, w), A of eq. 3.
    """
    height, width = picture.shape[-2:]
    h, w = region.shape
    image = ((picture.permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)

    def attention(box: Box) -> float:
        y, x = (box[1] + box[3]) / 2 * h / height, (box[0] + box[2]) / 2 * w / width
        return float(region[min(max(int(y), 0), h - 1), min(max(int(x), 0), w - 1)])

    boxes: list[Box] = [tuple(map(float, face.box)) for face in find_faces(image) if not face.padded]  # type: ignore[misc]
    return max(boxes, key=attention, default=None)


def look(  # noqa: PLR0913  a look's own parameters
    lens: Lens, handle: RunHandle, state: RunState, denoised: Tensor, sigma: float, seeds: list[int], side: int
) -> None:
    """Look at every head of the batch that has not been seen yet, and remember in `state` what was found.

    Args:
        denoised: (B, C, H, W), x0 behind CFG of the level that has just been fused.
        seeds: the pictures' own; the near view's noise is drawn from generators of ours.
        side: of the near view, px.
    """
    try:
        found = take_look(lens, handle, state, denoised, sigma, seeds, side)
    except BeyondFacialError:
        raise
    except NoPictureError:  # the hosts mend their VAE, but only when the pictures are done
        handle.warn(NO_PICTURE)
        state.stop_looking()
        return
    except LeftOffError:
        state.stop_looking()
        return
    except Exception as error:  # of the host's VAE or model, or of an extension that is hung on them
        raise BeyondFacialError(
            f'BeyondFacial: the closer look failed ({type(error).__name__}: {error}); switch "refine_head" off, or '
            "the other extensions that change the model."
        ) from error
    state.keep(found, sigma)
    if state.looks == len(close_look.LOOKS) and state.target and not all(state.target.seen):
        numbers = ", ".join(str(i + 1) for i, seen in enumerate(state.target.seen) if not seen)
        handle.warn(
            f"BeyondFacial: no face could be found while picture {numbers} of {len(seeds)} was made, so there was no "
            'closer look at it; let the prompt show the face, or switch "refine_head" off.'
        )


def take_look(  # noqa: PLR0913
    lens: Lens, handle: RunHandle, state: RunState, denoised: Tensor, sigma: float, seeds: list[int], side: int
) -> Target:
    """The target of this look; of pictures that were seen before it holds nothing."""
    before = state.target.seen if state.target else (False,) * len(denoised)
    pictures: dict[int, Tensor] = {}
    views: dict[int, View] = {}
    seen = list(before)
    for i in (i for i, done in enumerate(before) if not done):
        picture = finite(lens.decode(denoised[i : i + 1]))
        box = head_of(picture, state.region[i, 0], handle.plan.find_faces)  # type: ignore[index]
        view = None if box is None else close_look.view_of(box, picture.shape[-2:])  # type: ignore[arg-type]
        seen[i] = box is not None
        if view is not None:
            pictures[i], views[i] = picture, view
    decode, size = functools.partial(decoded, lens), denoised.shape[-2:]
    target = torch.zeros_like(denoised, dtype=torch.float32)
    mask = torch.zeros_like(target[:, :1])
    if views:
        near = see_near(lens, {i: close_look.enlarge(pictures[i], views[i], side) for i in views}, sigma, seeds)
        for i, view in views.items():
            picture = close_look.put_back(pictures[i], decode(near[i]), view)
            target[i] = close_look.encode_closely(picture.clamp(-1, 1), lambda y: finite(lens.encode(y)), decode)
            mask[i] = close_look.oval(view, picture.shape[-2:], tuple(size)).to(mask)  # type: ignore[arg-type]
    lens.ready()
    return Target(target, mask, tuple(i in views for i in range(len(denoised))), tuple(seen))


def decoded(lens: Lens, z: Tensor) -> Tensor:
    """The picture (3, H, W) in [-1, 1] of latents (C, h, w)."""
    return finite(lens.decode(z[None])).clamp(-1, 1)


def see_near(lens: Lens, pictures: dict[int, Tensor], sigma: float, seeds: list[int]) -> Tensor:
    """The near views' latents, (B, C, h, w), as the identity line leaves them; of no meaning where there is none."""
    encoded = {i: finite(lens.encode(picture.clamp(-1, 1))) for i, picture in pictures.items()}
    blank = torch.zeros_like(next(iter(encoded.values())))
    z = torch.stack([encoded.get(i, blank) for i in range(len(seeds))])
    generators = [torch.Generator().manual_seed(int(seed) % 2**63) for seed in seeds]
    noise = torch.stack([torch.randn(z.shape[1:], generator=each) for each in generators]).to(z)
    lens.ready()
    return close_look.settle(until_left_off(lens.predict), z, noise, close_look.near_sigmas(sigma))


def until_left_off(predict: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float], Tensor]:
    """As the hosts' own samplers do: asks before every step whether the user still wants it."""
    from modules import shared

    def step(x: Tensor, sigma: float) -> Tensor:
        if shared.state.interrupted or shared.state.skipped:
            raise LeftOffError
        return predict(x, sigma)

    return step
