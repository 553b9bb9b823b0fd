"""Head refinement of a batch (docs/method.md eq. 13-14): find the head in the picture so far, let the identity line
draw it large, paste it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import BeyondFacialError
from ..faces.face import Face
from ..method import head_refinement as eq
from ..method.head_refinement import CropBox, RefinedHeads
from ..unet.rows import LineRows
from ..unet.sites import AttentionSite
from .encoded_prompts import EncodedPrompts
from .host import BatchImage, Host, Step
from .plan import IdentityLine, Plan, refuse_nan
from .report import Report

PixelBox = tuple[float, float, float, float]
Predict = Callable[[Tensor, float], Tensor]
NO_PICTURE = (
    "BeyondFacial: the VAE gave NaN when the head refinement asked for the picture so far, so no head was refined; "
    "run the VAE in full precision (--no-half-vae)."
)
NOT_WITH_INPAINTING = (
    "BeyondFacial: with an inpainting model no head is refined, as such a model is shown the whole picture; "
    "choose an ordinary checkpoint for it."
)


class NoPictureError(Exception):
    """The autoencoder's output is of no use."""


class InterruptError(Exception):
    """The user has pressed interrupt or skip; the host ends the sampling at its next level."""


@dataclass(eq=False)
class HeadRefinement:
    """The head refinement of one pass, and what it remembers.

    attempts: how many of eq.REFINE_AT have had theirs. heads: what has been refined so far.
    """

    plan: Plan
    host: Host
    images: Sequence[BatchImage]
    prompts: EncodedPrompts
    sites: Sequence[AttentionSite]
    report: Report
    attempts: int = 0
    heads: RefinedHeads | None = None

    @property
    def all_refined(self) -> bool:
        return self.heads is not None and all(self.heads.refined)

    def should_refine(self, sigma: float) -> bool:
        """Whether heads are to be looked for at this level."""
        is_open = self.heads is None or not all(self.heads.done)
        return self.plan.refines and is_open and eq.attempts_due(sigma) > self.attempts

    def disable(self, warning: str = "") -> None:
        """Look for no further head; what is refined stays so."""
        self.attempts = len(eq.REFINE_AT)
        if warning:
            self.report.warn(warning)

    def refine_heads(self, step: Step, delta: Tensor, attention: Mapping[str, Tensor]) -> None:
        """Refine every head that can be found at this level (eq. 13-14); what prevents it is a warning or an error.

        Args:
            delta: (B, C, H, W), of eq. 8. attention: A of eq. 3, by line.
        """
        if not self.host.can_crop():
            self.disable(NOT_WITH_INPAINTING)
            return
        line, done = self.plan.lines[0], self.heads.done if self.heads else (False,) * len(delta)
        so_far = step.denoised.float() + step.gain * delta
        try:
            found = find_heads(self.host, self.plan.find_faces, so_far, attention[line.name], done)
            predict = self.crop_predictor(line, min(step.cfg_scale, eq.MAX_CFG))
            heads = redraw_heads(self.host, predict, found, so_far, step.sigma, [i.seed for i in self.images])
        except BeyondFacialError:
            raise
        except NoPictureError:  # the hosts mend their VAE, but only when the pictures are done
            self.disable(NO_PICTURE)
        except InterruptError:
            self.disable()
        except Exception as error:  # of the host's VAE or model, or of an extension that is hung on them
            raise BeyondFacialError(
                f"BeyondFacial: the head refinement failed ({type(error).__name__}: {error}); switch "
                '"refine_head" off, or the other extensions that change the model.'
            ) from error
        else:
            self.note_attempt(step.sigma, heads)

    def note_attempt(self, sigma: float, found: RefinedHeads) -> None:
        """Remember what an attempt made; shortfalls.py tells of the pictures without a face."""
        self.attempts = eq.attempts_due(sigma)
        self.heads = found if self.heads is None else self.heads.merge(found)
        self.report.refined = self.heads.refined

    def crop_predictor(self, line: IdentityLine, cfg_scale: float) -> Predict:
        """(x, sigma) -> the identity line's x0 behind CFG, on the refinement's own prompts."""

        def predict(x: Tensor, sigma: float) -> Tensor:
            with line.attached(self.sites, LineRows.one_each(len(x))):
                cond = self.host.predict_x0(x, sigma, self.prompts.refine[line.name], line, is_crop=True)
            refuse_nan(cond, sigma)
            self.report.identity_rows += len(x)
            if cfg_scale == 1:
                return cond
            uncond = self.host.predict_x0(x, sigma, self.prompts.refine_uncond, None, is_crop=True)
            self.report.identity_rows += len(x)
            return uncond + cfg_scale * (cond - uncond)

        return predict


@dataclass(frozen=True, eq=False)
class HeadsToRefine:
    """The heads that one attempt has found: by picture, the decoded picture and the square to cut out.

    done: in which pictures nothing is left to do once these are refined.
    """

    pictures: Mapping[int, Tensor]
    crops: Mapping[int, CropBox]
    done: tuple[bool, ...]


def find_heads(
    host: Host,
    find_faces: Callable[[np.ndarray], list[Face]],
    denoised: Tensor,
    attention: Tensor,
    done: Sequence[bool],
) -> HeadsToRefine:
    """Look for a head in every picture that is not done.

    Args:
        denoised: (B, C, H, W), the x0 that the pass is heading for.
        attention: (B, 1, H, W), A of eq. 3: of several faces the one counts on which it is strongest.
    """
    pictures: dict[int, Tensor] = {}
    crops: dict[int, CropBox] = {}
    found = list(done)
    for i in (i for i, is_done in enumerate(done) if not is_done):
        picture = require_finite(host.decode_latents(denoised[i : i + 1]))
        box = choose_face(picture, attention[i, 0], find_faces)
        crop = None if box is None else eq.crop_around(box, (picture.shape[-2], picture.shape[-1]))
        found[i] = box is not None
        if crop is not None:
            pictures[i], crops[i] = picture, crop
    return HeadsToRefine(pictures, crops, tuple(found))


def choose_face(picture: Tensor, attention: Tensor, find_faces: Callable[[np.ndarray], list[Face]]) -> PixelBox | None:
    """The box in px of the face on which attention is strongest; None without a face.

    Faces that are found only with a border around the picture do not count: with nothing else to be seen, detectors
    take the picture as such for one.

    Args:
        picture: (3, H, W) in about [-1, 1]. attention: (h, w).
    """
    height, width = picture.shape[-2:]
    h, w = attention.shape
    image = ((picture.permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)

    def attention_at(box: PixelBox) -> float:
        y, x = (box[1] + box[3]) / 2 * h / height, (box[0] + box[2]) / 2 * w / width
        return float(attention[min(max(int(y), 0), h - 1), min(max(int(x), 0), w - 1)])

    faces = [face for face in find_faces(image) if not face.padded]
    boxes = [(float(f.box[0]), float(f.box[1]), float(f.box[2]), float(f.box[3])) for f in faces]
    return max(boxes, key=attention_at, default=None)


def redraw_heads(
    host: Host, predict: Predict, heads: HeadsToRefine, denoised: Tensor, sigma: float, seeds: Sequence[int]
) -> RefinedHeads:
    """Draw the heads large and paste them back; the UNet is where it samples afterwards.

    Args:
        predict: (x, sigma) -> the identity line's x0 behind CFG on enlarged crops, one a picture.
        denoised: as in find_heads. seeds: the pictures' own; the noise is drawn from generators of ours.
    """
    target = torch.zeros_like(denoised, dtype=torch.float32)
    mask = torch.zeros_like(target[:, :1])
    if heads.crops:
        refined = denoise_crops(host, predict, heads, sigma, seeds)
        for i, crop in heads.crops.items():
            picture = eq.paste(heads.pictures[i], decode(host, refined[i]), crop).clamp(-1, 1)
            target[i] = eq.encode_compensated(
                picture, lambda y: require_finite(host.encode_image(y)), lambda z: decode(host, z)
            )
            size, grid = picture.shape[-2:], denoised.shape[-2:]
            mask[i] = eq.elliptical_mask(crop, (size[0], size[1]), (grid[0], grid[1])).to(mask)
    host.load_unet()
    return RefinedHeads(target, mask, tuple(i in heads.crops for i in range(len(denoised))), heads.done)


def denoise_crops(host: Host, predict: Predict, heads: HeadsToRefine, sigma: float, seeds: Sequence[int]) -> Tensor:
    """The crops' latents, (B, C, h, w), as the identity line leaves them; without meaning where there is no crop."""
    side = eq.compute_refine_size(host.picture_size, host.native_side)
    enlarged = {i: eq.crop_resize(heads.pictures[i], crop, side).clamp(-1, 1) for i, crop in heads.crops.items()}
    encoded = {i: require_finite(host.encode_image(picture)) for i, picture in enlarged.items()}
    blank = torch.zeros_like(next(iter(encoded.values())))
    z = torch.stack([encoded.get(i, blank) for i in range(len(seeds))])
    generators = [torch.Generator().manual_seed(int(seed) % 2**63) for seed in seeds]
    noise = torch.stack([torch.randn(z.shape[1:], generator=each) for each in generators]).to(z)
    host.load_unet()
    sigmas = host.law.refine_sigmas(sigma)
    return eq.sample_euler(until_interrupted(host, predict), host.law.noised(z, noise, sigmas[0]), sigmas)


def until_interrupted(host: Host, predict: Predict) -> Predict:
    """As the hosts' own samplers do: ask before every step whether the user still wants it."""

    def step(x: Tensor, sigma: float) -> Tensor:
        if host.is_interrupted():
            raise InterruptError
        return predict(x, sigma)

    return step


def decode(host: Host, latents: Tensor) -> Tensor:
    """The picture (3, H, W) in [-1, 1] of latents (C, h, w)."""
    return require_finite(host.decode_latents(latents[None])).clamp(-1, 1)


def require_finite(x: Tensor) -> Tensor:
    """An autoencoder's output in fp32; NoPictureError where it is not finite."""
    if not torch.isfinite(x).all():
        raise NoPictureError
    return x.float()
