"""One noise level in a Forge's own batch: which rows are whose, and what they gave.

The host feeds its conds in calls of its own making (uncond first, fewer at a time when memory is low, prompts of very
different lengths apart). Each cond carries a tag among its model conds, so each call says which of its rows are whose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import BeyondFacialError
from ...method.predictions import Predictions
from ...sampling.plan import IdentityLine
from ...sampling.sampling_pass import SamplingPass
from ...unet.injection import Attached
from ...unet.probe import ProbeReading
from ...unet.rows import LineRows, Rows
from ..types import Entry, ModelOptions, Unet
from .model import plain_condition

TAG = "beyondfacial_rows"
UNCOND, SEMANTIC = "the host's uncond", "the host's cond"


@dataclass(frozen=True)
class Part:
    """What some rows of a call are: an AND part of a line, of this strength."""

    line: str
    strength: float = 1.0


def tagged(entry: Entry, tag: int, batch: int, **changes: float) -> Entry:
    """A copy of the host's cond with a tag on each of its rows."""
    label = plain_condition(entry)(torch.full((batch, 1), float(tag)))
    return {**entry, "model_conds": {**entry["model_conds"], TAG: label}, **changes}


def line_entry(entry: Entry, line_cond: Entry | None) -> Entry:
    """The identity line's cond: the host's own (or `own`, of the line's prompt), in the whole picture."""
    base = {key: value for key, value in entry.items() if key not in ("area", "mask", "mask_strength")}
    if line_cond is None:
        return base
    kept = {k: v for k, v in entry["model_conds"].items() if k not in line_cond["model_conds"]}
    return {**base, **line_cond, "model_conds": {**kept, **line_cond["model_conds"]}}


def compose(parts: Sequence[Tensor], strengths: Sequence[float]) -> Tensor:
    """The host's own AND composition: the mean of the parts, weighted by their strengths."""
    if len(parts) == 1:
        return parts[0]
    total = sum(strengths)
    shares = [strength / total if total else 1 / len(parts) for strength in strengths]
    return torch.stack([share * part for part, share in zip(parts, shares, strict=True)]).sum(0)


@dataclass(eq=False)
class Level:
    """One noise level: its lines, the rows of its calls by tag, and what was read and predicted in them.

    parts: a tag is an index into it. is_tiled: another extension has cut the picture into tiles.
    """

    sampling: SamplingPass
    lines: tuple[IdentityLine, ...]
    batch: int
    parts: list[Part] = field(default_factory=list)
    predicted: dict[int, Tensor] = field(default_factory=dict)
    reading: ProbeReading = field(default_factory=ProbeReading)
    attached: dict[str, list[Attached]] = field(default_factory=dict)
    has_uncond: bool = False
    is_tiled: bool = False

    def tag(self, entry: Entry, part: Part, **changes: float) -> Entry:
        self.parts.append(part)
        return tagged(entry, len(self.parts) - 1, self.batch, **changes)

    def predictions(self, semantic: Tensor, uncond: Tensor | None) -> Predictions:
        """What the level's lines predicted; BeyondFacialError where another extension kept their rows to itself."""
        identity = {}
        for line in self.lines:
            tags = [tag for tag in self.predicted if self.parts[tag].line == line.name]
            if not tags:
                raise BeyondFacialError(
                    "BeyondFacial: another extension took the UNet's call over, so the identity line got no answer; "
                    "switch off tiled sampling and the like for this run."
                )
            strengths = [self.parts[tag].strength for tag in tags]
            identity[line.name] = compose([self.predicted[tag] for tag in tags], strengths)
        readings = self.sampling.readings(self.reading, self.attached)
        return Predictions(semantic, identity, readings, uncond if self.has_uncond else None)


@dataclass(eq=False)
class Call:
    """One UNet call of a level; `tags` has one entry for every `level.batch` rows."""

    level: Level
    tags: list[int]
    reading: ProbeReading | None = None
    attached: dict[str, list[Attached]] = field(default_factory=dict)

    def tags_of(self, line: str) -> list[int]:
        return [tag for tag in self.tags if self.level.parts[tag].line == line]

    def rows_of(self, tags: Sequence[int]) -> Rows:
        """The rows of these tags, in the call's order."""
        b, at = self.level.batch, [i for i, tag in enumerate(self.tags) if tag in tags]
        if at == list(range(at[0], at[-1] + 1)):
            return slice(at[0] * b, (at[-1] + 1) * b)
        return [i * b + j for i in at for j in range(b)]

    def line_rows(self, line: str) -> LineRows | None:
        """The rows of one line in this call; None where it has none."""
        tags, b = self.tags_of(line), self.level.batch
        if not tags:
            return None
        weights = tuple(self.level.parts[tag].strength for tag in tags for _ in range(b))
        return LineRows(self.rows_of(tags), tuple(range(b)) * len(tags), weights)

    def run(self, unet: Unet, x: Tensor, t: Tensor, conditions: Mapping) -> Tensor:
        """The host's model call with probe and injections on it; they come off on every exit."""
        sampling = self.level.sampling
        with ExitStack() as scope:
            semantic = self.line_rows(SEMANTIC)
            if semantic is not None:
                self.reading = scope.enter_context(sampling.watched(semantic))
            for line in self.level.lines:
                where = self.line_rows(line.name)
                if where is not None:
                    self.attached[line.name] = scope.enter_context(line.attached(sampling.sites, where))
            return unet(x, t, **conditions)

    def note(self, out: Tensor) -> None:
        """Hand what the call gave to its level."""
        level = self.level
        level.has_uncond = level.has_uncond or bool(self.tags_of(UNCOND))
        if self.reading is not None:
            level.reading.extend(self.reading)
        for line, attached in self.attached.items():
            kept = level.attached.setdefault(line, attached)
            for one, other in zip(kept, attached, strict=True):
                if one is not other:
                    one.energy.extend(other.energy)
            tags = self.tags_of(line)
            level.predicted.update(zip(tags, out[self.rows_of(tags)].clone().split(level.batch), strict=True))
            level.sampling.report.identity_rows += len(tags) * level.batch

    def without_lines(self, out: Tensor) -> Tensor:
        """Zeros in the identity lines' rows: they count with strength 0, and 0 times NaN is NaN."""
        tags = [tag for line in self.level.lines for tag in self.tags_of(line.name)]
        if tags:
            out = out.clone()
            out[self.rows_of(tags)] = 0
        return out


def capture_wrapper(level: Level, previous: Callable | None) -> Callable:
    """The unet function wrapper of one level, chained over another extension's.

    Calls without a tag are not the host's main ones (guidance that degrades its input comes again): they pass through.
    """

    def wrapper(unet: Unet, args: ModelOptions) -> Tensor:
        conditions = dict(args["c"])
        label, args = conditions.pop(TAG, None), {**args, "c": conditions}
        if label is None:
            return previous(unet, args) if previous else unet(args["input"], args["timestep"], **conditions)
        call = Call(level, [round(tag) for tag in label.flatten()[:: level.batch].tolist()])

        def captured(x: Tensor, t: Tensor, **conditions: object) -> Tensor:
            if x.shape != args["input"].shape:  # tiles, or rows apart: they cannot be told any more
                level.is_tiled = True
                return unet(x, t, **conditions)
            return call.run(unet, x, t, conditions)

        out = previous(captured, args) if previous else captured(args["input"], args["timestep"], **conditions)
        if not level.is_tiled:
            call.note(out)
        return call.without_lines(out)

    return wrapper
