"""What the table measures in place of the method's own parts: the relatives' decision, a true mask, parts taken out.

Each alternative turns the method's plan into another plan, with a mask policy of its own or another start box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from bench.ablations import BRANCHES, SCOPES
from lib_beyondfacial.method import attention_maps as maps
from lib_beyondfacial.method import decision
from lib_beyondfacial.method.mask import HEAD_SHARE, AdaptiveMask, MaskPolicy, compute_semantic_map
from lib_beyondfacial.method.predictions import AttentionReadings, Predictions
from lib_beyondfacial.method.start_noise import prior_box
from lib_beyondfacial.sampling.plan import Plan
from lib_beyondfacial.settings import MethodParameters

HeadBox = Sequence[float]  # x0, y0, x1, y1 in shares of the picture
Boxes = Sequence[HeadBox | None]
Alternative = Callable[[Plan, Boxes], Plan]


def compute_argmax_mask(predictions: Predictions, name: str) -> Tensor:
    """1 where the spatial softmax of the identity line's smoothed response is the larger, as in MagicFusion's
    saliency-aware noise blending and Face-diffuser's saliency-adaptive noise fusion; (B, 1, H, W).

    The responses are blur(mean_c |D_s - D_u|) and blur(mean_c |D_i - D_u|), over the whole picture.
    """
    if predictions.uncond is None:
        raise RuntimeError("the relatives' decision needs an unconditional line")
    sigma, uncond = HEAD_SHARE * min(predictions.size) / 5, predictions.uncond.float()
    semantic, identity = (
        decision.blur((line.float() - uncond).abs().mean(1, keepdim=True), sigma)
        for line in (predictions.semantic, predictions.identity[name])
    )
    semantic, identity = (s.flatten(1).softmax(1).unflatten(1, s.shape[1:]) for s in (semantic, identity))
    return (identity > semantic).float()


def compute_box_mask(boxes: Boxes, height: int, width: int) -> Tensor:
    """By how much each latent pixel is covered by its image's box, (B, 1, H, W); without a box nothing is."""

    def cover(low: float, high: float, n: int) -> Tensor:
        edges = torch.arange(n, dtype=torch.float32)
        return (torch.clamp(edges + 1, max=high * n) - torch.clamp(edges, min=low * n)).clamp(0, 1)

    masks = [
        torch.zeros(height, width) if b is None else cover(b[1], b[3], height)[:, None] * cover(b[0], b[2], width)
        for b in boxes
    ]
    return torch.stack(masks)[:, None]


class UnsmoothedMask(AdaptiveMask):
    """A mask of its own at every level, with no memory."""

    def compute_masks(
        self, position: float, predictions: Predictions, attention: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        strength = self.parameters.mask_strength
        return {name: self.compute_decision(name, predictions, a) * strength for name, a in attention.items()}


class SaliencyOnly(UnsmoothedMask):
    """The relatives' way: a hard argmax over the picture, no attention, no memory."""

    def compute_decision(self, name: str, predictions: Predictions, a: Tensor) -> Tensor:
        return compute_argmax_mask(predictions, name)


class ArgmaxInRegion(UnsmoothedMask):
    """The relatives' hard argmax, but inside attention's gate."""

    def compute_decision(self, name: str, predictions: Predictions, a: Tensor) -> Tensor:
        return decision.smoothstep(a, *self.gate()) * compute_argmax_mask(predictions, name)


class OracleMask(UnsmoothedMask):
    """The head's box in the plain picture, as the judge's detector sees it, is the mask at every level."""

    def __init__(self, parameters: MethodParameters, boxes: Boxes):
        super().__init__(parameters)
        self.boxes = boxes

    def compute_decision(self, name: str, predictions: Predictions, a: Tensor) -> Tensor:
        return compute_box_mask(self.boxes, *predictions.size).to(a.device)


class NoAttention(AdaptiveMask):
    """A = 1/2 everywhere and an open gate: the decision of eq. 6 by saliency alone, judged over the whole picture."""

    def gate(self) -> tuple[float, float]:
        return 0.0, 0.25

    def compute_map(self, readings: AttentionReadings, size: tuple[int, int]) -> Tensor:
        return torch.full_like(super().compute_map(readings, size), 0.5)


class NoDecision(AdaptiveMask):
    """M* = G: whatever attention's gate lets through is the identity's."""

    def compute_decision(self, name: str, predictions: Predictions, a: Tensor) -> Tensor:
        mask = decision.smoothstep(a, *self.gate())
        return torch.where(mask < decision.MASK_FLOOR, torch.zeros_like(mask), mask)


class SaliencyOverPicture(AdaptiveMask):
    """Eq. 5 with the mean over the whole picture in place of the candidate region."""

    def candidates(self, a: Tensor) -> Tensor:
        return torch.ones_like(a, dtype=torch.bool)


class OneMap(AdaptiveMask):
    """A region of one map alone in place of eq. 3's mix.

    pick: (readings, size) -> (B, 1, H, W), None where no site could be read.
    """

    def __init__(
        self, parameters: MethodParameters, pick: Callable[[AttentionReadings, tuple[int, int]], Tensor | None]
    ):
        super().__init__(parameters)
        self.pick = pick

    def compute_map(self, readings: AttentionReadings, size: tuple[int, int]) -> Tensor:
        picked = self.pick(readings, size)
        if picked is None:
            raise RuntimeError("no cross-attention site of this UNet gave the map")
        return picked


class GateAt(AdaptiveMask):
    """Another centre of the gate G of eq. 6."""

    def __init__(self, parameters: MethodParameters, centre: float):
        super().__init__(parameters)
        self.centre = centre

    def gate(self) -> tuple[float, float]:
        half = 0.25 * self.parameters.mask_softness
        return self.centre - half, self.centre + half


class NoMask(AdaptiveMask):
    """Nothing is fused: until its head is refined a picture stays plain."""

    def compute_masks(
        self, position: float, predictions: Predictions, attention: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        return {name: torch.zeros_like(a) for name, a in attention.items()}


def prior_start(plan: Plan, boxes: Boxes) -> Plan:
    """The start's box from the prior, whatever the look-ahead reads."""
    return replace(plan, find_boxes=lambda readings, batch, size: [prior_box(*size)] * batch)


def average(responses: list[Tensor], size: tuple[int, int], relative: bool) -> Tensor | None:
    averaged = maps.average_sites(responses, *size, relative=relative)
    return None if averaged is None else maps.normalise(averaged)


def by_mask(policy: Callable[..., MaskPolicy], **given: object) -> Alternative:
    """The plan with another mask policy, made from the parameters and what is given besides."""
    return lambda plan, boxes: replace(plan, mask_policy=partial(policy, **given))


ALTERNATIVES: dict[str, Alternative] = {
    "saliency_only": by_mask(SaliencyOnly),
    "oracle_mask": lambda plan, boxes: replace(plan, mask_policy=partial(OracleMask, boxes=boxes)),
    "no_attention": by_mask(NoAttention),
    "no_decision": by_mask(NoDecision),
    "argmax_in_region": by_mask(ArgmaxInRegion),
    "saliency_over_picture": by_mask(SaliencyOverPicture),
    "region_head": by_mask(OneMap, pick=compute_semantic_map),
    "region_person": by_mask(OneMap, pick=lambda readings, size: average(readings.subject, size, relative=False)),
    "region_energy": by_mask(OneMap, pick=lambda readings, size: average(readings.energy, size, relative=True)),
    "prior_start": prior_start,
    "gate_0.5": by_mask(GateAt, centre=0.5),
    "gate_0.6": by_mask(GateAt, centre=0.6),
    "gate_0.8": by_mask(GateAt, centre=0.8),
    "no_mask": by_mask(NoMask),
    **BRANCHES,
    **dict.fromkeys(SCOPES, lambda plan, boxes: plan),
}
