"""One sampling pass of the method, on any host: docs/method.md's pseudo-code, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..method.assignment import HeadAssignment
from ..method.fusion import compute_differences, fuse
from ..method.head_refinement import apply_target
from ..method.mask import AdaptiveMask
from ..method.predictions import AttentionReadings, Predictions
from ..method.schedule import Schedule
from ..method.start_noise import Box, prepend_identity
from ..unet.injection import Attached
from ..unet.probe import ProbeReading
from ..unet.rows import LineRows, RowLedger
from ..unet.sites import enumerate_sites
from .encoded_prompts import HEAD, encode_pass
from .head_refinement import HeadRefinement
from .host import BatchImage, Host, Step
from .plan import IdentityLine, Plan, refuse_host_nan, refuse_nan
from .prompts import order_in_prompt
from .report import Report
from .start_noise import BAND, encode_reference, pixels_per_latent

STRIDE_SLACK = 1e-3  # in ranks of the schedule
REFINER = "BeyondFacial: the refiner took over; the identity ends there, as the adapter belongs to the first model."


class SamplingPass:
    """The method in one sampling pass, with the state that it keeps between noise levels.

    At every level the host calls `acts`, then `active_lines`; it evaluates these lines and adds `delta` to the
    semantic prediction before CFG. All predictions are x0.

    levels: the sigmas of the pass; the host sets them when its sampler has chosen them.
    """

    levels: Sequence[float] | None = None

    def __init__(
        self,
        plan: Plan,
        host: Host,
        images: Sequence[BatchImage],
        report: Report,
        masks_before: Mapping[str, Tensor] | None = None,
    ):
        self.plan, self.host, self.images, self.report = plan, host, tuple(images), report
        self.parameters = plan.parameters
        self.model_key = host.model_key()
        self.sites = enumerate_sites(host.unet())
        self.prompts = encode_pass(plan, host, self.images, self.sites)
        self.schedule: Schedule | None = None
        self.mask_policy = plan.mask_policy(plan.parameters)
        if masks_before and isinstance(self.mask_policy, AdaptiveMask):
            self.mask_policy.start_from(masks_before)
        subjects = [line.subject for line in plan.lines]
        ranks = [order_in_prompt(subjects, image.prompt) for image in self.images]
        self.assignment = HeadAssignment({line.name: line.position for line in plan.lines}, ranks)
        self.refinement = HeadRefinement(plan, host, self.images, self.prompts, self.sites, report, self.assignment)
        self.attention: Mapping[str, Tensor] = {}
        self.masks: Mapping[str, Tensor] = {}
        self.differences: Mapping[str, Tensor] = {}
        self._evaluated_at: float | None = None
        self._calls = 0
        self._rows: list[int] = []  # the host's own, of the calls that were fused
        self._like: Tensor | None = None  # their latents

    def edits_start(self) -> bool:
        """Whether the identity is mixed into this pass's start noise; if it acts, and of one person."""
        p, schedule = self.parameters, Schedule.from_levels(self.levels or [1.0])
        return (
            p.idap_strength > 0
            and len(self.plan.lines) == 1
            and any(schedule.in_window(s, p.start, p.stop) for s in schedule.levels)
        )

    def edit_start(self, start: Tensor, scale: float) -> None:
        """Mix each picture's face into the sampler's start where its head will be (docs/method.md eq. 11), in place.

        Args:
            start: (B, C, H, W), the sampler's start: `scale` times noise of unit variance.
        """
        size = (start.shape[-2], start.shape[-1])
        factor = pixels_per_latent(self.host.picture_size[1], size[1])
        noise, strength = start.float() / scale, self.parameters.idap_strength
        for line, boxes in self.look_ahead(start):
            latents: dict[tuple[int, Box], Tensor] = {}
            for i, box in enumerate(boxes):
                crop = line.person_of(i).crop
                assert crop is not None  # who loads an export without one refuses a start identity
                if (id(crop), box) not in latents:
                    z = encode_reference(self.host.encode_images, crop, box, size, factor)
                    latents[id(crop), box] = z.to(noise.device)
                edited = prepend_identity(noise[i], latents[id(crop), box], box, strength, BAND)
                start[i] += (scale * (edited - noise[i])).to(start.dtype)
        self.host.load_unet()

    def look_ahead(self, start: Tensor) -> list[tuple[IdentityLine, list[Box]]]:
        """Predict where each picture will have each line's head, by one probed call of the semantic line."""
        batch, sigma = len(start), max(self.levels or [1.0])
        with torch.no_grad(), self.prompts.probe.attached(LineRows.one_each(batch)) as reading:
            self.host.predict_x0(self.host.start_to_x(start, sigma), sigma, self.host.first_conds())
        self.report.note_rows(batch, start)
        readings, size = self.readings(reading, {}), (start.shape[-2], start.shape[-1])
        return [(line, self.plan.find_boxes(readings[line.name], batch, size)) for line in self.plan.lines]

    def acts(self, sigma: float) -> bool:
        """Whether the identity may act at this level; if not, no identity row is computed."""
        if self.schedule is None:
            self.schedule = Schedule.from_levels(self.levels or [sigma], first=sigma)
            self.report.batch.steps = len(self.schedule.levels)
        self._calls += 1
        self._note_host()
        return self.may_act(sigma)

    def may_act(self, sigma: float) -> bool:
        """What `acts` says, without counting a model call, for hosts that ask once more; `acts` comes first."""
        assert self.schedule is not None, "acts comes first"
        p = self.parameters
        if not self.plan.can_act or not self.schedule.in_window(sigma, p.start, p.stop):
            self.report.drawn.clear()  # from here on the host draws the head
            return False
        if self.host.model_key() != self.model_key:
            self.report.drawn.clear()
            self.report.warn_not_acting(REFINER)
            return False
        self.report.batch.in_window = True
        return True

    def active_lines(self, sigma: float) -> tuple[IdentityLine, ...]:
        """The lines to evaluate at this level; none if the last differences are reused (stride), and none whose heads
        are all refined."""
        if self.parameters.stride > 1 and self._evaluated_at is not None:
            moved = self._position(sigma) - self._position(self._evaluated_at)
            if 0 <= moved < self.parameters.stride - STRIDE_SLACK:
                return ()
        return tuple(line for line in self.plan.drawn if not self.refinement.all_refined(line.name))

    @contextmanager
    def watched(self, where: LineRows, ledger: RowLedger | None = None) -> Iterator[ProbeReading]:
        """Read the semantic rows of the UNet call made inside the context, if the mask policy needs them."""
        if not self.mask_policy.reads_attention:
            yield ProbeReading()
            return
        with self.prompts.probe.attached(where, ledger) as reading:
            yield reading

    def readings(
        self, reading: ProbeReading, attached: Mapping[str, Sequence[Attached]]
    ) -> dict[str, AttentionReadings]:
        """The attention readings of each line: the probe's margins, and the energy of the attached injections."""
        head = reading.margins(HEAD)
        return {
            line.name: AttentionReadings(
                head=head,
                subject=reading.margins(line.name),
                energy=[energy for each in attached.get(line.name, ()) for energy in each.energy.by_image()],
            )
            for line in self.plan.lines
        }

    def delta(self, step: Step, predictions: Predictions | None) -> Tensor:
        """The addition to the semantic prediction at this level, before CFG: the whole method.

        Args:
            predictions: of the active lines; None if there are none.

        Returns (B, C, H, W) fp32, exactly 0 where the mask is 0.
        """
        p = self.parameters
        refuse_predictions(step, predictions)  # NaN would silently give an empty mask
        if predictions is not None:
            maps = self.mask_policy.compute_maps(predictions)
            self.attention = self.assignment.cut_maps(maps, predictions)
            self.masks = self.mask_policy.compute_masks(self._position(step.sigma), predictions, self.attention)
            style = p.style if self.attention else 0.0  # eq. 9 is for a head, not for a whole mask
            self.differences = compute_differences(predictions, self.masks, style)
            self._evaluated_at = step.sigma
        delta = fuse(self.differences, self.refinement.open_masks(self.masks), p.rho)
        if self.attention and self.refinement.should_refine(step.sigma):
            self.refinement.refine_heads(step, delta, self.attention)
            self.report.batch.note_heads(self.refinement.heads.done if self.refinement.heads else {})
        heads = self.refinement.heads
        delta = apply_target(delta, heads, step.denoised, step.guidance, p.mask_strength, p.rho)
        refuse_nan(delta, step.sigma)
        self._note_level(step, delta)
        self.report.masks = self.masks if heads is None else heads.replace_masks(self.masks, p.mask_strength)
        return delta

    def _note_level(self, step: Step, delta: Tensor) -> None:
        self.report.batch.note_level(delta, step.guidance)
        self._rows.append(step.rows)
        self._like = delta
        self._note_host()

    def _note_host(self) -> None:
        """Record the host's own rows so far: a call outside the window counts as the largest inside it."""
        if self._like is not None:
            others = self._calls - len(self._rows)
            self.report.note_host(sum(self._rows) + others * max(self._rows), self._like)

    def _position(self, sigma: float) -> float:
        assert self.schedule is not None, "acts comes first"
        return self.schedule.position(sigma)


def refuse_predictions(step: Step, predictions: Predictions | None) -> None:
    """BeyondFacialError if a prediction is not finite; the device is waited for once."""
    identity = [] if predictions is None else list(predictions.identity.values())
    finite = [torch.isfinite(each).all() for each in (step.denoised, *identity)]
    if torch.stack([each.to(finite[0].device) for each in finite]).all():
        return
    refuse_host_nan(step.denoised, step.sigma)  # first, or the identity line would be blamed for it
    for each in identity:
        refuse_nan(each, step.sigma)
