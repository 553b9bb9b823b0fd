"""One sampling pass of the method: maps and predictions in, delta out (docs/method.md sections 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lib_beyondfacial.method import attention_maps as maps
from lib_beyondfacial.method import close_look, decision, fusion
from lib_beyondfacial.method.close_look import Target
from lib_beyondfacial.method.schedule import Schedule

HEAD_SHARE = 0.22  # a full-shot head's share of the shorter side; the saliency's blur is a fifth of it
GATE_CENTRE = 0.725  # dollhouse: the tight gate (0.6, 0.85) keeps the composition
PROBE_FLOOR = 0.05  # nats by which the best place must stand out of the picture, else "no head here"


class FusionSettings(Protocol):
    """What the engine reads of the user's settings."""

    start: float
    stop: float
    stride: int
    mask_mode: str
    mask_strength: float
    mask_softness: float
    decision_reference: str
    smoothing: float
    rho: float
    style: float
    refine_head: bool


@dataclass(frozen=True)
class Lines:
    """The predictions of one noise level, (B, C, H, W), one space, before CFG. `uncond` None: no real uncond row."""

    semantic: Tensor
    identity: Tensor
    uncond: Tensor | None = None


@dataclass(frozen=True)
class Readings:
    """What attention said, per site (B, n): margins of the head words, of the person words; identity energy."""

    head: list[Tensor] = field(default_factory=list)
    person: list[Tensor] = field(default_factory=list)
    energy: list[Tensor] = field(default_factory=list)


@dataclass
class RunState:
    """Everything one sampling pass remembers; made anew for each pass."""

    settings: FusionSettings
    schedule: Schedule
    mask: Tensor | None = None
    mask_position: float | None = None
    saliency_semantic: Tensor | None = None
    difference_x0: Tensor | None = None
    difference_level: float | None = None
    region: Tensor | None = None
    identity_levels: int = 0
    fused_mask: Tensor | None = None
    target: Target | None = None
    looks: int = 0

    def active(self, level: float) -> bool:
        """Whether the identity may act at this level at all; outside, no identity row runs."""
        s = self.settings
        return s.mask_strength > 0 and s.start < s.stop and self.schedule.in_window(level, s.start, s.stop)

    def wants_identity_line(self, level: float) -> bool:
        """Whether the identity line must be evaluated at this level: not where an earlier difference is reused
        (stride), and no more once every head was seen from near."""
        if self.holds_all:
            return False
        if self.settings.stride <= 1 or self.difference_x0 is None or self.difference_level is None:
            return True
        moved = self.schedule.position(level) - self.schedule.position(self.difference_level)
        return moved >= self.settings.stride - 1e-3 or moved < 0

    @property
    def holds_all(self) -> bool:
        """Whether every picture's head is held at what the closer look found."""
        return self.target is not None and all(self.target.held)

    @property
    def may_look(self) -> bool:
        """Whether heads are looked at from near at all: not where the identity is meant to be everywhere."""
        return self.settings.refine_head and self.settings.mask_mode == "adaptive"

    def wants_look(self, sigma: float) -> bool:
        """Whether the heads are to be looked at from near at this level, which has been fused."""
        if not self.may_look or self.region is None or (self.target and all(self.target.seen)):
            return False
        return close_look.looks_due(sigma) > self.looks

    def stop_looking(self) -> None:
        self.looks = len(close_look.LOOKS)

    def keep(self, found: Target, sigma: float) -> None:
        """Remember what a look at this level found."""
        self.looks = close_look.looks_due(sigma)
        self.target = found if self.target is None else self.target.or_else(found)

    def hold(self, delta: Tensor, denoised: Tensor, gain: float) -> Tensor:
        """The delta with which x0 behind CFG becomes the target, where a head was seen from near (eq. 15).

        Args:
            delta: (B, C, H, W) fp32 of eq. 8, which stays where nothing is held.
            denoised: the semantic line's x0 behind CFG.
            gain: by how much that x0 changes with delta: the CFG scale, times -sigma in eps space.
        """
        target = self.target
        if target is None or gain == 0 or not any(target.held):
            return delta
        here = torch.tensor(target.held, device=delta.device)[:, None, None, None]
        mask = target.mask * self.settings.mask_strength
        self.fused_mask = mask if self.fused_mask is None else torch.where(here, mask, self.fused_mask)
        held = fusion.compute_delta(denoised, target.denoised, mask, self.settings.rho) / gain
        return torch.where(here, held, delta)

    def gate(self) -> tuple[float, float]:
        half = 0.25 * self.settings.mask_softness
        return GATE_CENTRE - half, GATE_CENTRE + half

    def compute_region(self, readings: Readings, size: tuple[int, int]) -> Tensor | None:
        """A of eq. 3, (B, 1, H, W) in [0, 1]; None where no site could be read."""
        a_semantic = compute_semantic_map(readings, size)
        energy = maps.average_sites(readings.energy, *size)
        if a_semantic is None or energy is None:
            return a_semantic
        # 0^0 is 1: an empty semantic map must not hand the whole picture to the identity line.
        mixed = maps.mix(a_semantic, maps.normalise(energy))
        return torch.where(a_semantic.amax((-1, -2), keepdim=True) > 0, mixed, torch.zeros_like(mixed))

    def fuse(self, level: float, lines: Lines, readings: Readings, to_x0: float = 1.0) -> Tensor:
        """delta of eq. 8 for lines evaluated at this level; advances the smoothing state.

        Args:
            level: sigma or timestep, in the schedule's own unit.
            to_x0: factor from a difference of predictions to one of x0 (1 for x0 predictions, -sigma for eps).

        Returns: (B, C, H, W) fp32.
        """
        identity = lines.identity
        if self.settings.mask_mode == "whole":
            mask = torch.ones_like(lines.semantic[:, :1], dtype=torch.float32) * self.settings.mask_strength
        else:
            mask = self._adaptive_mask(level, lines, readings) * self.settings.mask_strength
            identity = fusion.align_style(identity, lines.semantic, mask, self.settings.style)
        self.fused_mask, self.identity_levels = mask, self.identity_levels + 1
        if self.settings.stride > 1:
            self.difference_x0 = (identity.float() - lines.semantic.float()) * to_x0
            self.difference_level = level
        return fusion.compute_delta(lines.semantic, identity, mask, self.settings.rho)

    def reuse(self, pred_semantic: Tensor, to_x0: float = 1.0) -> Tensor:
        """delta where the identity line is not evaluated: the last mask and x0-space difference (stride); 0 where all
        is held."""
        if self.holds_all:
            return torch.zeros_like(pred_semantic, dtype=torch.float32)
        if self.difference_x0 is None or self.fused_mask is None:
            raise RuntimeError("reuse before the identity line was evaluated")
        difference = self.difference_x0 / to_x0
        return fusion.compute_delta(torch.zeros_like(difference), difference, self.fused_mask, self.settings.rho)

    def _adaptive_mask(self, level: float, lines: Lines, readings: Readings) -> Tensor:
        size = (lines.semantic.shape[-2], lines.semantic.shape[-1])
        a = self.compute_region(readings, size)
        if a is None:
            raise RuntimeError("no cross-attention site of this UNet could be read")
        self.region = a
        gate = self.gate()
        candidate, sigma = a > gate[0], HEAD_SHARE * min(size) / 5
        reference = lines.semantic
        if self.settings.decision_reference == "uncond" and lines.uncond is not None:
            reference = lines.uncond
        s_identity = decision.compute_saliency(lines.identity.float() - reference.float(), candidate, sigma)
        if lines.uncond is not None:
            response = lines.semantic.float() - lines.uncond.float()
            self.saliency_semantic = decision.compute_saliency(response, candidate, sigma)
        s_semantic = self.saliency_semantic if self.saliency_semantic is not None else 1.0
        fresh = decision.compute_decision(a, s_identity, s_semantic, gate)
        return self._smoothed(level, fresh)

    def _smoothed(self, level: float, fresh: Tensor) -> Tensor:
        """eq. 7; the state advances only when the level falls below the last accepted one."""
        position = self.schedule.position(level)
        if self.mask is None or self.mask_position is None:
            self.mask, self.mask_position = fresh, position
            return fresh
        distance = position - self.mask_position
        mask = decision.smooth(self.mask, fresh, self.settings.smoothing, max(distance, 0.0))
        if distance > 1e-4:
            self.mask, self.mask_position = mask, position
        return mask


def compute_semantic_map(readings: Readings, size: tuple[int, int]) -> Tensor | None:
    """A_s: the head probe's map; where no head stands out, the person words' map stands in, else 0.

    An absolute floor on the un-normalised margin's contrast says "no head here".
    """
    head = maps.average_sites(readings.head, *size, relative=False)
    if head is None:
        return None
    person = maps.average_sites(readings.person, *size, relative=False)
    fallback = torch.zeros_like(head) if person is None else _normalise_if_found(person)
    return torch.where(_contrast(head) > PROBE_FLOOR, maps.normalise(head), fallback)


def _normalise_if_found(margin: Tensor) -> Tensor:
    return torch.where(_contrast(margin) > PROBE_FLOOR, maps.normalise(margin), torch.zeros_like(margin))


def _contrast(margin: Tensor) -> Tensor:
    """By how much a map's best place stands out of the picture, (B, 1, 1, 1)."""
    return margin.amax((-1, -2), keepdim=True) - margin.mean((-1, -2), keepdim=True)
