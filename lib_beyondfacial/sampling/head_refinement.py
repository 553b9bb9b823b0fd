"""Head refinement of a batch (docs/method.md eq. 13-14): find the head in the decoded x0, let the identity line redraw
it enlarged, paste it back."""

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
from .faces_in_picture import box_of, choose_face, is_better, to_image
from .host import BatchImage, Host, Step
from .plan import IdentityLine, Plan, refuse_host_nan, refuse_nan
from .report import Report

LOOKING, REDRAWING = "BeyondFacial looks for the head", "BeyondFacial redraws the head, step {} of {}"
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
    """The autoencoder gave numbers that are not finite."""


class InterruptError(Exception):
    """The user has pressed interrupt or skip; the host ends the sampling at its next level."""


@dataclass(eq=False)
class HeadRefinement:
    """The head refinement of one pass, with its state.

    attempts: how many of the levels eq.REFINE_AT are done. heads: the heads refined so far.
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
        """Whether a search for heads is due at this level."""
        is_open = self.heads is None or not all(self.heads.done)
        return self.plan.refines and is_open and eq.attempts_due(sigma) > self.attempts

    def disable(self, warning: str = "") -> None:
        """Search for no more heads in this pass; heads that are refined stay so."""
        self.attempts = len(eq.REFINE_AT)
        if warning:
            self.report.warn(warning)

    def refine_heads(self, step: Step, delta: Tensor, attention: Mapping[str, Tensor]) -> None:
        """Refine every head that is found at this level (eq. 13-14); failures become a warning or an error.

        Args:
            delta: (B, C, H, W), of eq. 8. attention: A of eq. 3, by line.
        """
        if not self.host.can_crop():
            self.disable(NOT_WITH_INPAINTING)
            return
        try:
            heads = self.redraw(step, step.denoised.float() + step.guidance * delta, attention)
        except BeyondFacialError:
            raise
        except NoPictureError:  # the hosts switch a VAE that gives NaN to fp32, but only for the final pictures
            self.disable(NO_PICTURE)
        except InterruptError:
            self.disable()
        except Exception as error:  # errors of the host's VAE or model, or of extensions that have patched them
            raise BeyondFacialError(
                f"BeyondFacial: the head refinement failed ({type(error).__name__}: {error}); switch "
                '"refine_head" off, or the other extensions that change the model.'
            ) from error
        else:
            self.note_attempt(step.sigma, heads)
        finally:
            self.host.show_progress("")

    def redraw(self, step: Step, so_far: Tensor, attention: Mapping[str, Tensor]) -> RefinedHeads:
        """One search and refinement, on the pass's present x0; reloads the UNet afterwards."""
        line, done = self.plan.lines[0], self.heads.done if self.heads else (False,) * len(so_far)
        self.host.show_progress(LOOKING)
        found = find_heads(self.host, self.plan.find_faces, so_far, attention[line.name], done)
        predict = self.crop_predictor(line, min(step.cfg_scale, eq.MAX_CFG))
        seeds, side = [image.seed for image in self.images], self.plan.refine_size(self.host.native_side)
        pictures = redraw_heads(self.host, predict, found, step.sigma, seeds, side)
        heads = encode_heads(self.host, self.keep_better(line, found, pictures), found, so_far)
        self.host.load_unet()
        return heads

    def keep_better(
        self, line: IdentityLine, found: HeadsToRefine, pictures: Mapping[int, Tensor]
    ) -> dict[int, Tensor]:
        """The pictures whose redrawn head is at least as similar to the person; a warning for each of the others."""
        kept = {}
        for i, picture in pictures.items():
            after = self.plan.find_faces(to_image(picture))
            if is_better(found.faces[i], after, line.person_of(i).embedding):
                kept[i] = picture
            else:
                self.report.warn(
                    f"BeyondFacial: the refined head of picture {i + 1} of {len(self.images)} was less similar to the "
                    "person than the one before, so that one was kept; try another seed, or a simpler prompt."
                )
        return kept

    def note_attempt(self, sigma: float, found: RefinedHeads) -> None:
        """Store the result of one search; shortfalls.py warns about pictures without a face."""
        self.attempts = eq.attempts_due(sigma)
        self.heads = found if self.heads is None else self.heads.merge(found)
        self.report.refined = self.heads.refined

    def crop_predictor(self, line: IdentityLine, cfg_scale: float) -> Predict:
        """A function (x, sigma) -> the identity line's x0 behind CFG, with the refinement's prompts."""

        def predict(x: Tensor, sigma: float) -> Tensor:
            prompts = self.prompts.refine[line.name]
            with line.attached(self.sites, LineRows.one_each(len(x))):
                cond = self.host.predict_x0(x, sigma, prompts, line, is_crop=True)
            if not torch.isfinite(cond).all():
                refuse_host_nan(self.host.predict_x0(x, sigma, prompts, None, is_crop=True), sigma)
            refuse_nan(cond, sigma)
            self.report.identity_rows += len(x)
            if cfg_scale == 1:
                return cond
            uncond = self.host.predict_x0(x, sigma, self.prompts.refine_uncond, None, is_crop=True)
            refuse_host_nan(uncond, sigma)
            self.report.identity_rows += len(x)
            return uncond + cfg_scale * (cond - uncond)

        return predict


@dataclass(frozen=True, eq=False)
class HeadsToRefine:
    """The heads that one search found: by picture, the decoded picture, the face, and the square to cut out.

    done: per picture, whether it needs no further search once these heads are refined.
    """

    pictures: Mapping[int, Tensor]
    faces: Mapping[int, Face]
    crops: Mapping[int, CropBox]
    done: tuple[bool, ...]


def find_heads(
    host: Host,
    find_faces: Callable[[np.ndarray], list[Face]],
    denoised: Tensor,
    attention: Tensor,
    done: Sequence[bool],
) -> HeadsToRefine:
    """Search for a head in every picture that is not done.

    Args:
        denoised: (B, C, H, W), the pass's present x0.
        attention: (B, 1, H, W), A of eq. 3; of several faces, the one with the strongest attention is taken.
    """
    pictures: dict[int, Tensor] = {}
    faces: dict[int, Face] = {}
    crops: dict[int, CropBox] = {}
    found = list(done)
    for i in (i for i, is_done in enumerate(done) if not is_done):
        picture = require_finite(host.decode_latents(denoised[i : i + 1]))
        face = choose_face(find_faces(to_image(picture)), attention[i, 0], picture.shape[-2:])
        crop = None if face is None else eq.crop_around(box_of(face), (picture.shape[-2], picture.shape[-1]))
        found[i] = face is not None
        if face is not None and crop is not None:
            pictures[i], faces[i], crops[i] = picture, face, crop
    return HeadsToRefine(pictures, faces, crops, tuple(found))


def redraw_heads(
    host: Host, predict: Predict, heads: HeadsToRefine, sigma: float, seeds: Sequence[int], side: int
) -> dict[int, Tensor]:
    """By picture, the decoded picture with the head that the identity line has redrawn.

    Args:
        predict: (x, sigma) -> the identity line's x0 behind CFG on enlarged crops, one a picture.
        seeds: of the pictures; the noise is drawn from separate generators, so the host's random state stays.
        side: px of the enlarged crops.
    """
    if not heads.crops:
        return {}
    refined = denoise_crops(host, predict, heads, sigma, seeds, side)
    return {
        i: eq.paste(heads.pictures[i], decode(host, refined[i]), crop).clamp(-1, 1) for i, crop in heads.crops.items()
    }


def encode_heads(host: Host, pictures: Mapping[int, Tensor], heads: HeadsToRefine, like: Tensor) -> RefinedHeads:
    """The target of eq. 14, from the pictures whose redrawn head is kept; `like`: the batch's latents (B, C, H, W)."""
    target = torch.zeros_like(like, dtype=torch.float32)
    mask = torch.zeros_like(target[:, :1])
    for i, picture in pictures.items():
        target[i] = eq.encode_compensated(
            picture, lambda y: require_finite(host.encode_image(y)), lambda z: decode(host, z)
        )
        size, grid = picture.shape[-2:], like.shape[-2:]
        mask[i] = eq.elliptical_mask(heads.crops[i], (size[0], size[1]), (grid[0], grid[1])).to(mask)
    return RefinedHeads(target, mask, tuple(i in pictures for i in range(len(like))), heads.done)


def denoise_crops(
    host: Host, predict: Predict, heads: HeadsToRefine, sigma: float, seeds: Sequence[int], side: int
) -> Tensor:
    """Denoise the crops with the identity line: latents (B, C, h, w), undefined for pictures without a crop."""
    enlarged = {i: eq.crop_resize(heads.pictures[i], crop, side).clamp(-1, 1) for i, crop in heads.crops.items()}
    encoded = {i: require_finite(host.encode_image(picture)) for i, picture in enlarged.items()}
    blank = torch.zeros_like(next(iter(encoded.values())))
    z = torch.stack([encoded.get(i, blank) for i in range(len(seeds))])
    generators = [torch.Generator().manual_seed(int(seed) % 2**63) for seed in seeds]
    noise = torch.stack([torch.randn(z.shape[1:], generator=each) for each in generators]).to(z)
    host.load_unet()
    sigmas = host.law.refine_sigmas(sigma)
    return eq.sample_euler(watched_steps(host, predict, sigmas), host.law.noised(z, noise, sigmas[0]), sigmas)


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
