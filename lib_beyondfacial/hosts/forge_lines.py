"""The lines of one noise level inside a Forge's own batch: which rows are whose, what they are told, what they gave.

The host feeds its conds in calls of its own making (uncond first, fewer at a time when memory is low, prompts of very
different lengths apart). Each cond carries a tag among its model conds, so each call says which of its rows are whose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..adapters.branch import IdentityBranch
from ..errors import BeyondFacialError
from ..method.engine import Readings
from . import words
from .forge_model import plain_condition
from .unet_sites import AttentionSite, BranchHooks, KnownRows, Probe, Rows, hooked

TAG = "beyondfacial_line"
UNCOND = 0  # tags: AND part k of the prompt is 1 + k, of the identity line -(1 + k)
Entry = dict[str, Any]


def tagged(entry: Entry, tag: int, batch: int, **changes: Any) -> Entry:
    """A copy of the host's cond with a tag on each of its rows."""
    label = plain_condition(entry)(torch.full((batch, 1), float(tag)))
    return {**entry, "model_conds": {**entry["model_conds"], TAG: label}, **changes}


def identity_entry(entry: Entry, part: int, batch: int, own: Entry | None) -> Entry:
    """The identity line's cond: the host's own (or `own`, of an identity prompt), in the whole picture.

    Of strength 0: the host computes the rows and leaves them out of its mean.
    """
    base = {key: value for key, value in entry.items() if key not in ("area", "mask", "mask_strength")}
    if own is not None:
        kept = {k: v for k, v in entry["model_conds"].items() if k not in own["model_conds"]}
        base = {**base, **own, "model_conds": {**kept, **own["model_conds"]}}
    return tagged(base, -(1 + part), batch, strength=0.0)


def weighted(parts: dict[int, Tensor], weights: list[float]) -> Tensor:
    """The host's own AND composition: the mean of the parts, weighted by their strengths."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    total = sum(weights[k] for k in parts)
    share = {k: weights[k] / total if total else 1 / len(parts) for k in parts}
    return torch.stack([share[k] * part for k, part in parts.items()]).sum(0)


@dataclass(eq=False)
class Step:
    """One noise level: the rows of its calls, and what was read and predicted in them.

    Args:
        batch: number of pictures; every cond covers that many rows.
        weights: strengths of the prompt's AND parts; weights_identity: of the identity line's.
        probe: None where no map is needed.
    """

    batch: int
    weights: list[float]
    weights_identity: list[float]
    sites: list[AttentionSite]
    branch: IdentityBranch
    weight: float
    probe: Probe | None
    predictions: dict[int, Tensor] = field(default_factory=dict)
    readings: dict[str, list[dict[int, Tensor]]] = field(default_factory=dict)
    has_uncond: bool = False
    is_cut_up: bool = False
    rows: int = 0

    def identity(self) -> Tensor:
        """D_i of eq. 2, composed as the host composes D_s."""
        if not self.predictions:
            raise BeyondFacialError(
                "BeyondFacial: another extension took the UNet's call over, so the identity line got no answer; "
                "switch off tiled sampling and the like for this run."
            )
        return weighted(self.predictions, self.weights_identity)

    def compose_readings(self) -> Readings:
        """Attention of the AND parts, averaged by their strengths' size."""

        def composed(kind: str, weights: list[float]) -> list[Tensor]:
            return [weighted(parts, [abs(w) for w in weights]) for parts in self.readings.get(kind, [])]

        return Readings(
            head=composed(words.HEAD, self.weights),
            person=composed(words.PERSON, self.weights),
            energy=composed("energy", self.weights_identity),
        )

    def keep(self, kind: str, parts: list[int], per_site: list[Tensor]) -> None:
        """Note what one call's rows gave at each site, by AND part."""
        kept = self.readings.setdefault(kind, [{} for _ in per_site])
        for at_site, value in zip(kept, per_site, strict=True):
            at_site.update(zip(parts, value.split(self.batch), strict=True))


@dataclass(eq=False)
class Call:
    """One UNet call of a step; `tags` has one entry for every `step.batch` rows."""

    step: Step
    tags: list[int]
    hooks: BranchHooks | None = None

    def rows(self, wanted: list[int]) -> Rows | None:
        """The rows of these tags, in the call's order."""
        b = self.step.batch
        at = [i for i, tag in enumerate(self.tags) if tag in wanted]
        if not at:
            return None
        if at == list(range(at[0], at[-1] + 1)):
            return slice(at[0] * b, (at[-1] + 1) * b)
        return [i * b + j for i in at for j in range(b)]

    @property
    def semantic(self) -> list[int]:
        return [tag for tag in self.tags if tag > UNCOND]

    @property
    def identity(self) -> list[int]:
        return [tag for tag in self.tags if tag < UNCOND]

    def run(self, apply_model: Callable, x: Tensor, t: Tensor, c: dict[str, Any]) -> Tensor:
        """The host's model call with our hooks on it; they come off on every exit."""
        step, handles = self.step, []
        semantic, identity = self.rows(self.semantic), self.rows(self.identity)
        if step.probe is not None and semantic is not None:
            handles += step.probe.attach(KnownRows(semantic))
        if identity is not None:
            self.hooks = BranchHooks(step.sites, step.branch, step.weight, identity)
            handles += self.hooks.attach()
        with hooked(handles):
            return apply_model(x, t, **c)

    def take(self, out: Tensor) -> Tensor:
        """Note what the call gave; returns it with zeros in the identity's rows (strength 0 times NaN is NaN)."""
        step = self.step
        step.has_uncond = step.has_uncond or UNCOND in self.tags
        if step.probe is not None and self.semantic:
            for group in step.probe.contexts:
                step.keep(group, [tag - 1 for tag in self.semantic], step.probe.result(group))
        rows = self.rows(self.identity)
        if rows is None or self.hooks is None:
            return out
        self.hooks.check_fired()
        parts = [-tag - 1 for tag in self.identity]
        step.keep("energy", parts, self.hooks.energy())
        step.predictions.update(zip(parts, out[rows].clone().split(step.batch), strict=True))
        step.rows += len(parts) * step.batch
        out = out.clone()
        out[rows] = 0
        return out


def watching_wrapper(step: Step, previous: Callable | None) -> Callable:
    """The unet function wrapper of one step, chained over another extension's.

    Calls without a tag are not the host's main ones (guidance that degrades its input comes again): they pass through.
    """

    def wrapper(apply_model: Callable, args: dict[str, Any]) -> Tensor:
        c = dict(args["c"])
        label, args = c.pop(TAG, None), {**args, "c": c}
        if label is None:
            return previous(apply_model, args) if previous else apply_model(args["input"], args["timestep"], **c)
        call = Call(step, [round(tag) for tag in label.flatten()[:: step.batch].tolist()])

        def watched(x: Tensor, t: Tensor, **c: Any) -> Tensor:
            if x.shape != args["input"].shape:  # tiles, or rows apart: they cannot be told any more
                step.is_cut_up = True
                return apply_model(x, t, **c)
            return call.run(apply_model, x, t, c)

        out = previous(watched, args) if previous else watched(args["input"], args["timestep"], **c)
        if not step.is_cut_up:
            return call.take(out)
        rows = call.rows(call.identity)
        if rows is not None:
            out = out.clone()
            out[rows] = 0
        return out

    return wrapper
