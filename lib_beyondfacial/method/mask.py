"""Mask policies: where each identity line is used at each noise level (docs/method.md eq. 3-7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..settings.parameters import MethodParameters
from . import attention_maps as maps
from . import decision
from .predictions import AttentionReadings, Predictions

HEAD_SHARE = 0.22  # a full-shot head's share of the shorter side; the saliency's blur is a fifth of it
GATE_CENTRE = 0.725  # measured in Dollhouse: the narrow gate (0.6, 0.85) keeps the composition
PROBE_FLOOR = 0.05  # nats by which the maximum must exceed the mean, else no head is assumed
SAME_LEVEL = 1e-4  # in ranks of the schedule


class NoAttentionError(Exception):
    """No cross-attention of the UNet could be read."""


class MaskPolicy(Protocol):
    """Computes the masks of one pass, and keeps state between its levels.

    reads_attention: whether compute_maps needs the attention readings.
    """

    reads_attention: bool

    def compute_maps(self, predictions: Predictions) -> Mapping[str, Tensor]:
        """For each line a map of where its person can be, (B, 1, H, W) in [0, 1]; {} if reads_attention is False."""
        ...

    def compute_masks(
        self, position: float, predictions: Predictions, attention: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """The mask of each line, (B, 1, H, W) fp32 in [0, 1], by line; at most 1 in sum.

        Args:
            position: of the level in its pass's schedule (Schedule.position).
            attention: from compute_maps.
        """
        ...


class WholeMask:
    """The mask strength everywhere: the identity line replaces the semantic one; several share it in equal parts."""

    reads_attention = False

    def __init__(self, parameters: MethodParameters):
        self.strength = parameters.mask_strength

    def compute_maps(self, predictions: Predictions) -> Mapping[str, Tensor]:
        return {}

    def compute_masks(
        self, position: float, predictions: Predictions, attention: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        whole = torch.ones_like(predictions.semantic[:, :1], dtype=torch.float32) * self.strength
        whole = whole / len(predictions.identity)
        return {name: whole for name in predictions.identity}


class AdaptiveMask:
    """Attention limits where the head can be; there the predictions choose the line (docs/method.md eq. 3-7)."""

    reads_attention = True

    def __init__(self, parameters: MethodParameters):
        self.parameters = parameters
        self._smoothed: dict[str, tuple[float, Tensor]] = {}  # by line: the position last accepted, its mask
        self._saliency_semantic: dict[str, Tensor] = {}

    def start_from(self, masks: Mapping[str, Tensor]) -> None:
        """Let eq. 7 go on from the masks of an earlier pass, (B, 1, h, w) by line, as a level before the first."""
        strength = self.parameters.mask_strength
        self._smoothed = {name: (-1.0, (mask / strength).clamp(0, 1)) for name, mask in masks.items()}

    def gate(self) -> tuple[float, float]:
        """(a0, a1) of eq. 6."""
        half = 0.25 * self.parameters.mask_softness
        return GATE_CENTRE - half, GATE_CENTRE + half

    def candidates(self, a: Tensor) -> Tensor:
        """The positions where the gate of eq. 6 is above 0, over which eq. 5 takes its mean: (B, 1, H, W) bool."""
        return a > self.gate()[0]

    def compute_maps(self, predictions: Predictions) -> Mapping[str, Tensor]:
        """A of eq. 3 for every line."""
        return {name: self.compute_map(predictions.readings[name], predictions.size) for name in predictions.identity}

    def compute_map(self, readings: AttentionReadings, size: tuple[int, int]) -> Tensor:
        """A of eq. 3, (B, 1, H, W) in [0, 1]; NoAttentionError if no attention site was read."""
        a_semantic = compute_semantic_map(readings, size)
        if a_semantic is None:
            raise NoAttentionError
        energy = maps.average_sites(readings.energy, *size)
        if energy is None:
            return a_semantic
        # 0^0 is 1: without this, an empty semantic map would give the whole picture to the identity line.
        mixed = maps.mix(a_semantic, maps.normalise(energy))
        return torch.where(a_semantic.amax((-1, -2), keepdim=True) > 0, mixed, torch.zeros_like(mixed))

    def compute_masks(
        self, position: float, predictions: Predictions, attention: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """M of eq. 7 times the mask strength."""
        fresh = {name: self.compute_decision(name, predictions, a) for name, a in attention.items()}
        strength = self.parameters.mask_strength
        return {name: self._smooth(name, position, mask) * strength for name, mask in fresh.items()}

    def compute_decision(self, name: str, predictions: Predictions, a: Tensor) -> Tensor:
        """M* of eq. 6 for one line; without an uncond row it uses the line's last S_s, or 1 if there is none."""
        semantic, uncond = predictions.semantic, predictions.uncond
        candidates, sigma = self.candidates(a), HEAD_SHARE * min(predictions.size) / 5
        is_to_uncond = self.parameters.decision_reference == "uncond"
        reference = uncond if is_to_uncond and uncond is not None else semantic
        response = predictions.identity[name].float() - reference.float()
        s_identity = decision.compute_saliency(response, candidates, sigma)
        if uncond is not None:
            response = semantic.float() - uncond.float()
            self._saliency_semantic[name] = decision.compute_saliency(response, candidates, sigma)
        return decision.compute_decision(a, s_identity, self._saliency_semantic.get(name, 1.0), self.gate())

    def _smooth(self, name: str, position: float, fresh: Tensor) -> Tensor:
        """Eq. 7; the state changes only at a level below the last accepted one (samplers may repeat a level)."""
        if name not in self._smoothed:
            self._smoothed[name] = position, fresh
            return fresh
        accepted, before = self._smoothed[name]
        if before.shape != fresh.shape:  # of an earlier pass, which was smaller
            before = F.interpolate(before.to(fresh), fresh.shape[-2:], mode="bilinear", align_corners=False)
        distance = position - accepted
        mask = decision.smooth(before, fresh, self.parameters.smoothing, max(distance, 0.0))
        if distance > SAME_LEVEL:
            self._smoothed[name] = position, mask
        return mask


def choose_mask_policy(parameters: MethodParameters) -> MaskPolicy:
    """The policy that `mask_mode` names."""
    return WholeMask(parameters) if parameters.mask_mode == "whole" else AdaptiveMask(parameters)


def compute_semantic_map(readings: AttentionReadings, size: tuple[int, int]) -> Tensor | None:
    """A_s, for each picture: the head probe's map; if no head stands out, that of the subject words; else 0.

    A map stands out if its contrast, before normalising, exceeds PROBE_FLOOR. None if no attention site was read.
    """
    head = maps.average_sites(readings.head, *size, relative=False)
    if head is None:
        return None
    subject = maps.average_sites(readings.subject, *size, relative=False)
    fallback = torch.zeros_like(head) if subject is None else _normalise_if_found(subject)
    return torch.where(_contrast(head) > PROBE_FLOOR, maps.normalise(head), fallback)


def _normalise_if_found(margin: Tensor) -> Tensor:
    return torch.where(_contrast(margin) > PROBE_FLOOR, maps.normalise(margin), torch.zeros_like(margin))


def _contrast(margin: Tensor) -> Tensor:
    """The difference of a map's maximum and its mean, (B, 1, 1, 1)."""
    return margin.amax((-1, -2), keepdim=True) - margin.mean((-1, -2), keepdim=True)
