"""Head refinement of a batch (docs/method.md eq. 13-14): find the heads in the decoded x0, let the identity lines
redraw them enlarged, paste them back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import BeyondFacialError
from ..faces.face import Face
from ..method import head_refinement as eq
from ..method.assignment import Head, HeadAssignment
from ..method.head_details import DrawnHead
from ..method.head_refinement import CropBox, RefinedHeads
from ..unet.rows import LineRows
from ..unet.sites import AttentionSite
from .autoencoder import NoPictureError, decode_each
from .crops import HeadsToRefine, InterruptError, Predict, Spot, denoise_crops, encode_heads
from .encoded_prompts import EncodedPrompts
from .faces_in_picture import box_of, is_better, is_same_place, to_head, to_image
from .host import BatchImage, Cond, Host, Step
from .plan import Plan, refuse_host_nan, refuse_nan
from .report import Report

NOT_KEPT = (
    "BeyondFacial: the refined head of picture {} of {} was less similar to {} than the one before, or no face in its "
    "place, so that one was kept; try another seed, or a simpler prompt."
)
LOOKING = "BeyondFacial looks for the head"
NO_PICTURE = (
    "BeyondFacial: the VAE gave NaN when the head refinement asked for the picture so far, so no head was refined; "
    "run the VAE in full precision (--no-half-vae)."
)
NOT_WITH_INPAINTING = (
    "BeyondFacial: with an inpainting model no head is refined, as such a model is shown the whole picture; "
    "choose an ordinary checkpoint for it."
)


@dataclass(eq=False)
class HeadRefinement:
    """The head refinement of one pass, with its state.

    attempts: how many of the levels eq.REFINE_AT are done. heads: the heads refined so far.
    landmarks: of the faces in the present crops, as shares of a crop's side.
    settled: by picture and line, the head that a search has chosen; its strength is infinite, so that it stays.
    """

    plan: Plan
    host: Host
    images: Sequence[BatchImage]
    prompts: EncodedPrompts
    sites: Sequence[AttentionSite]
    report: Report
    assignment: HeadAssignment
    attempts: int = 0
    heads: RefinedHeads | None = None
    landmarks: Mapping[Spot, np.ndarray | None] = field(default_factory=dict)
    settled: dict[int, dict[str, Head]] = field(default_factory=dict)

    def all_refined(self, line: str) -> bool:
        """Whether a line's head is refined in every picture."""
        return self.heads is not None and all(self.heads.refined[line])

    def open_masks(self, masks: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The lines' masks, without those whose head is refined."""
        return masks if self.heads is None else self.heads.open_masks(masks)

    def should_refine(self, sigma: float) -> bool:
        """Whether a search for heads is due at this level."""
        is_open = self.heads is None or not all(all(self.heads.done[line.name]) for line in self.plan.drawn)
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
        except (NoPictureError, InterruptError) as stop:
            # the hosts switch a VAE that gives NaN to fp32, but only for the final pictures
            self.disable(NO_PICTURE if isinstance(stop, NoPictureError) else "")
            self.host.load_unet()
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
        self.host.show_progress(LOOKING)
        found = self.find_heads(so_far, attention, eq.attempts_due(step.sigma) == len(eq.REFINE_AT))
        redrawn = self.redraw_crops(step, found) if found.crops else {}
        pictures, kept = self.keep_better(found, redrawn)
        heads = encode_heads(self.host, pictures, kept, found, so_far)
        strength = min(self.plan.parameters.mask_strength * self.plan.parameters.rho, 1.0)
        for name, i in kept:
            size = (pictures[i].shape[-2], pictures[i].shape[-1])
            self.report.drawn[name, i] = DrawnHead(redrawn[name, i], found.crops[name, i], size, i, strength)
        self.host.load_unet()
        return heads

    def redraw_crops(self, step: Step, found: HeadsToRefine) -> dict[Spot, Tensor]:
        """The redrawn heads, enlarged."""
        side = self.plan.refine_size(self.host.native_side)
        spots = list(found.crops)  # line by line
        is_large = len(spots) * side**2 > len(self.images) * next(iter(found.pictures.values()))[0].numel()
        self.landmarks = {spot: found.landmarks_of(*spot) for spot in spots}
        predict = self.crop_predictor(spots, step.cfg_scale, not is_large)
        return denoise_crops(self.host, predict, found, self.seeds(), side)

    def seeds(self) -> dict[Spot, int]:
        """Of the noise of every line's crops, in the order of the prompts: line by line."""
        return {
            (line.name, i): image.seed + k
            for k, line in enumerate(self.plan.lines)
            for i, image in enumerate(self.images)
        }

    def find_heads(self, denoised: Tensor, attention: Mapping[str, Tensor], is_last: bool = True) -> HeadsToRefine:
        """Search for the heads of every picture in which not every line's is done.

        Args:
            denoised: (B, C, H, W), the pass's present x0.
            attention: A of eq. 3 by line, (B, 1, H, W).
            is_last: whether no search follows; else one of several persons with positions waits for all the faces.
        """
        names, batch = [line.name for line in self.plan.lines], len(denoised)
        drawn = {line.name for line in self.plan.drawn}
        done = {name: [False] * batch if self.heads is None else [*self.heads.done[name]] for name in names}
        pictures: dict[int, Tensor] = {}
        faces: dict[Spot, Face] = {}
        crops: dict[Spot, CropBox] = {}
        together = torch.stack(list(attention.values())).amax(0)
        searched = {i: denoised[i] for i in range(batch) if not all(done[name][i] for name in drawn)}
        for i, picture in decode_each(self.host, searched, denoised[0, 0].numel()).items():
            size = (picture.shape[-2], picture.shape[-1])
            shown = self.plan.find_faces(to_image(picture))
            if not is_last and len(names) > 1 and len(shown) < max(line.position for line in self.plan.lines):
                continue
            for name, face in self.assign_faces(i, shown, together[i, 0], size):
                crop = eq.crop_around(box_of(face), size)
                if crop is not None and name in drawn:
                    pictures[i], faces[name, i], crops[name, i] = picture, face, crop
                done[name][i] = True
        crops = {spot: crops[spot] for spot in self.seeds() if spot in crops}  # a line's rows stand together
        return HeadsToRefine(pictures, faces, crops, {name: tuple(of_line) for name, of_line in done.items()})

    def assign_faces(
        self, image: int, faces: Sequence[Face], attention: Tensor, size: tuple[int, int]
    ) -> list[tuple[str, Face]]:
        """Each line that has no face yet with the one that is to be its person's (docs/method.md eq. 17).

        Other faces stay the host's, and so does each that an earlier search has given to a line.
        """
        settled = self.settled.setdefault(image, {})
        found = [(to_head(face, attention, size), face) for face in faces]
        found = [each for each in found if not any(is_same_place(each[0].box, head.box) for head in settled.values())]
        if not found:
            return []
        heads = [*settled.values(), *(head for head, _ in found)]
        genders = [line.person_of(image).gender for line in self.plan.lines]
        genders_of_faces = [*[None] * len(settled), *(face.gender for _, face in found)]
        known = {name: j for j, name in enumerate(settled)}
        places = self.assignment.choose_faces(image, heads, genders, genders_of_faces, known)
        self.report.heads[image] = {name: heads[j].box for name, j in places.items()}
        new = {name: j - len(settled) for name, j in places.items() if name not in settled}
        settled |= {name: replace(found[j][0], strength=math.inf) for name, j in new.items()}
        return [(name, found[j][1]) for name, j in new.items()]

    def keep_better(
        self, found: HeadsToRefine, redrawn: Mapping[Spot, Tensor]
    ) -> tuple[dict[int, Tensor], list[Spot]]:
        """The pictures, with every redrawn head that is a face and no less similar to its person, and which these are;
        a warning for each of the others."""
        pictures: dict[int, Tensor] = {}
        kept = []
        for (name, i), head in redrawn.items():
            line = next(line for line in self.plan.lines if line.name == name)
            picture = eq.paste(pictures.get(i, found.pictures[i]), head, found.crops[name, i]).clamp(-1, 1)
            after = self.plan.find_faces(to_image(picture))
            if is_better(found.faces[name, i], after, line.person_of(i).embedding):
                pictures[i] = picture
                kept.append((name, i))
            else:
                self.report.warn(NOT_KEPT.format(i + 1, len(self.images), line.label))
        return pictures, kept

    def note_attempt(self, sigma: float, found: RefinedHeads) -> None:
        """Store the result of one search; shortfalls.py warns about pictures without a face."""
        self.attempts = eq.attempts_due(sigma)
        self.heads = found if self.heads is None else self.heads.merge(found)
        self.report.refined = self.heads.refined

    def crop_predictor(self, spots: Sequence[Spot], cfg_scale: float, may_join: bool) -> Predict:
        """A function (x, sigma) -> the identity lines' x0 behind CFG, with the refinement's prompts; a row a spot.

        cfg_scale: of the pass.
        may_join: whether the rows with and without the prompt may be one call, if the host's own are.
        """
        prompts = list(self.seeds())
        rows = [prompts.index(spot) for spot in spots]
        cond, uncond = (self.host.select_rows(c, rows) for c in (self.prompts.refine, self.prompts.refine_uncond))
        joined = self.host.join_conds(cond, uncond) if may_join and cfg_scale != 1 else None

        def predict(x: Tensor, sigma: float) -> Tensor:
            scale = eq.guidance_at(sigma, cfg_scale)
            if scale == 1:
                with_prompt = without = self.crop_call(spots, x, sigma, cond)
            elif joined is not None:
                with_prompt, without = self.crop_call(spots, torch.cat([x, x]), sigma, joined).chunk(2)
            else:
                with_prompt = self.crop_call(spots, x, sigma, cond)
                without = self.crop_call([], x, sigma, uncond)
            if not torch.isfinite(with_prompt + without).all():
                refuse_host_nan(self.crop_call([], x, sigma, cond), sigma)
                refuse_nan(with_prompt, sigma)
                refuse_host_nan(without, sigma)
            return without + scale * (with_prompt - without)

        return predict

    def crop_call(self, spots: Sequence[Spot], x: Tensor, sigma: float, cond: Cond) -> Tensor:
        """The model's x0 of enlarged crops, before CFG; of the first rows, one a spot, with the spot's line."""
        lines = [line for line in self.plan.lines if any(name == line.name for name, _ in spots)]
        with ExitStack() as scope:
            for line in lines:
                rows = [row for row, (name, _) in enumerate(spots) if name == line.name]
                images = tuple(spots[row][1] for row in rows)
                landmarks = tuple(self.landmarks[spots[row]] for row in rows)
                where = LineRows(slice(rows[0], rows[-1] + 1), images, (1.0,) * len(rows), True, landmarks)
                scope.enter_context(line.attached(self.sites, where, self.plan.parameters.refine_weight))
            out = self.host.predict_x0(x, sigma, cond, is_crop=True)
        self.report.note_rows(len(x), x)
        return out
