"""One noise level in a Forge's own batch: which rows belong to which line, and their predictions.

The host distributes its conds over UNet calls itself (uncond first, fewer rows when memory is low, prompts of very
different lengths separately). Each cond has a tag among its model conds, so each call shows which rows belong to whom.
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
    """The meaning of some rows of a call: one AND part of a line, with its strength."""

    line: str
    strength: float = 1.0


def tagged(entry: Entry, tag: int, batch: int, **changes: float) -> Entry:
    """A copy of an entry with the number `tag` in each of its rows, and with `changes` to its other keys."""
    label = plain_condition(entry)(torch.full((batch, 1), float(tag)))
    return {**entry, "model_conds": {**entry["model_conds"], TAG: label}, **changes}


def line_entry(entry: Entry, line_cond: Entry | None) -> Entry:
    """The identity line's cond: the host's own (or `line_cond`, of the line's prompt), in the whole picture."""
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
    """One noise level: its lines, and the readings and predictions of its calls.

    parts: the meaning of each tag, which is an index into it. is_tiled: another extension has cut the picture into
        tiles.
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
        """The predictions of the level's lines; BeyondFacialError if another extension replaced the UNet call."""
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
        """The rows that have these tags, in the order of the call."""
        b, at = self.level.batch, [i for i, tag in enumerate(self.tags) if tag in tags]
        if at == list(range(at[0], at[-1] + 1)):
            return slice(at[0] * b, (at[-1] + 1) * b)
        return [i * b + j for i in at for j in range(b)]

    def line_rows(self, line: str) -> LineRows | None:
        """The rows of one line in this call; None if there are none."""
        tags, b = self.tags_of(line), self.level.batch
        if not tags:
            return None
        weights = tuple(self.level.parts[tag].strength for tag in tags for _ in range(b))
        return LineRows(self.rows_of(tags), tuple(range(b)) * len(tags), weights)

    def run(self, unet: Unet, x: Tensor, t: Tensor, conditions: Mapping) -> Tensor:
        """Make the host's model call with probe and injections attached; they are detached on every exit."""
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
        """Store the results of the call in its level."""
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
            level.sampling.report.note_rows(len(tags) * level.batch, out)

    def without_lines(self, out: Tensor) -> Tensor:
        """Set the identity lines' rows to 0: the host weights them with strength 0, and 0 times NaN would be NaN."""
        tags = [tag for line in self.level.lines for tag in self.tags_of(line.name)]
        if tags:
            out = out.clone()
            out[self.rows_of(tags)] = 0
        return out


def capture_wrapper(level: Level, previous: Callable | None) -> Callable:
    """The unet function wrapper of one level, around another extension's.

    Calls without tags are not the host's main ones (some guidance functions call the model again); they pass
    unchanged.
    """

    def wrapper(unet: Unet, args: ModelOptions) -> Tensor:
        conditions = dict(args["c"])
        label, args = conditions.pop(TAG, None), {**args, "c": conditions}
        if label is None:
            return previous(unet, args) if previous else unet(args["input"], args["timestep"], **conditions)
        call = Call(level, [round(tag) for tag in label.flatten()[:: level.batch].tolist()])

        def captured(x: Tensor, t: Tensor, **conditions: object) -> Tensor:
            if x.shape != args["input"].shape:  # the picture or the rows were split: the tags do not fit any more
                level.is_tiled = True
                return unet(x, t, **conditions)
            return call.run(unet, x, t, conditions)

        out = previous(captured, args) if previous else captured(args["input"], args["timestep"], **conditions)
        if not level.is_tiled:
            call.note(out)
        return call.without_lines(out)

    return wrapper
