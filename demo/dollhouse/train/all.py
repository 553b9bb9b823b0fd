"""The whole chain in its order: `python -m demo.dollhouse.train.all --size 256 --minutes 9 --calls 3`.

Each call goes on where the last one stopped, and stops by itself. With `--minutes`, the models share the time of all
the calls; without, each takes its own number of steps. After every stage the figures so far are written beside the
weights (`figures.txt`, `figures.json`).
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from demo.dollhouse.train import (
    adapter,
    decoder,
    detector,
    diffusion,
    evaluator,
    genders,
    measure,
    packs,
    recogniser,
    vae,
)
from demo.dollhouse.train.bundle import read_bundle, write_bundle
from demo.dollhouse.train.figures import write_figures
from demo.dollhouse.train.place import Amounts, Place, add_place_options, place_of
from demo.dollhouse.train.run import Budget, Plan
from demo.dollhouse.train.text import write_tokenizer
from demo.dollhouse.train.warm import warm_up

END = 20.0  # seconds before the end of a call at which training stops, to save
SET_UP = 0.88  # of the time is for training: the rest draws, encodes, exports and measures
LEAST = {"packs": 60.0, "measure": 60.0}  # seconds that a stage which cannot be broken off must have left
LEAST_TRAINING = 45.0


@dataclass(frozen=True)
class Stage:
    name: str
    share: float
    plans: dict[str, Plan] | None
    work: Callable[..., Any]
    options: dict[str, str] = field(default_factory=dict)


def of_recogniser(which: str, share: float) -> Stage:
    return Stage(which, share, recogniser.PLANS[which], recogniser.train, {"which": which})


# The seeing models come before the UNet: they are done soon, judge everything after, and the longest run is the one
# that a lost machine or a late call may best cut short. Shares: what limited the first weights gets the most.
STAGES = (
    of_recogniser("feed", 0.06),
    Stage("vae", 0.22, vae.PLANS, vae.train),
    Stage("decoder", 0.06, decoder.PLANS, decoder.train),
    of_recogniser("feed_soft", 0.04),
    Stage("detector", 0.05, detector.PLANS, detector.train),
    Stage("genders", 0.02, genders.PLANS, genders.train),
    of_recogniser("judge", 0.06),
    Stage("evaluator", 0.08, evaluator.PLANS, evaluator.train),
    Stage("packs", 0, None, packs.measure_all),
    Stage("diffusion", 0.31, diffusion.PLANS, diffusion.train),
    Stage("adapter", 0.10, adapter.PLANS, adapter.train),
    Stage("measure", 0, None, measure.measure_all),
)


# A few pictures and three steps of everything: whether a machine can do it all is known within a minute.
FEW = Amounts(
    pictures=48,
    wide=8,
    decoded=16,
    families=8,
    corpus=10,
    held_out=16,
    people=3,
    captions=2,
    generated=4,
    empty_scenes=8,
)
SHORT = {stage.name: replace(stage.plans["cpu"], steps=3, batch=6, lr=1e-3) for stage in STAGES if stage.plans}


@dataclass
class Chain:
    """What is finished, the seconds used by all calls, and those that each stage was granted when it began."""

    path: Path
    finished: list[str] = field(default_factory=list)
    seconds: float = 0.0
    calls: int = 0
    granted: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Chain:
        return cls(path, **(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}))

    def save(self) -> None:
        state = {k: v for k, v in vars(self).items() if k != "path"}
        self.path.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")

    def grant(self, stage: Stage, total: float) -> float:
        """Its share of what is left, among the stages that are still to do; fixed when the stage begins."""
        if math.isinf(total):
            return math.inf
        if stage.name not in self.granted:
            shares = sum(s.share for s in STAGES if s.name not in self.finished)
            self.granted[stage.name] = max(0.0, total - self.seconds) * SET_UP * stage.share / shares
        return self.granted[stage.name]


def run_stage(place: Place, stage: Stage, plans: dict[str, Plan], budget: Budget) -> bool:
    """Whether the stage is finished."""
    left = budget.call_ends - time.monotonic()
    if left < LEAST.get(stage.name, LEAST_TRAINING):
        return False
    print(f"== {stage.name}", flush=True)
    if stage.plans is None:
        stage.work(place)
        return True
    plan = plans.get(stage.name) or stage.plans[place.device.type]
    return bool(stage.work(place, plan, budget, **stage.options))


def run_chain(
    place: Place,
    plans: dict[str, Plan] | None = None,
    minutes: float = math.inf,
    calls: int = 1,
    give: Path | None = None,
    until: str | None = None,
) -> bool:
    """One call of the chain: True when everything is done. `until` names a stage to stop after."""
    began = time.monotonic()
    chain = Chain.load(place.cache / "chain.json")
    chain.calls += 1
    before, total = chain.seconds, 60 * minutes * max(calls, chain.calls)
    if not (place.clip / "config.json").exists():
        write_tokenizer(place.clip)
    for stage in STAGES:
        if stage.name in chain.finished:
            continue
        is_finished = run_stage(
            place, stage, plans or {}, Budget(chain.grant(stage, total), began + 60 * minutes - END)
        )
        chain.seconds = before + time.monotonic() - began
        chain.finished += [stage.name] if is_finished else []
        chain.save()
        write_figures(place.out)
        if give:
            write_bundle(place, give, set(chain.finished))
        if not is_finished or stage.name == until:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_place_options(parser)
    parser.add_argument("--minutes", type=float, default=math.inf, help="of this call (default: no limit)")
    parser.add_argument("--warm", action="store_true", help="go on from the shipped weights")
    parser.add_argument("--calls", type=int, default=1, help="how many such calls share the models' time")
    parser.add_argument("--take", type=Path, help="folder of a bundle to go on from, on a machine that has no cache")
    parser.add_argument("--give", type=Path, help="folder to write a bundle to: files of at most 15 MiB")
    parser.add_argument(
        "--try-out", action="store_true", help="only see whether every stage works here; keeps nothing"
    )
    args = parser.parse_args()
    if args.try_out:
        with tempfile.TemporaryDirectory() as folder:
            args.out, args.cache = Path(folder) / "weights", Path(folder) / "cache"
            run_chain(replace(place_of(args), amounts=FEW), SHORT, give=Path(folder) / "bundle")
        print("every stage works here", flush=True)
        return
    place = place_of(args)
    if args.warm and not (place.cache / "chain.json").exists():
        Chain(place.cache / "chain.json", finished=warm_up(place)).save()
    if args.take and not (place.cache / "chain.json").exists():
        read_bundle(place, args.take)
    is_done = run_chain(place, None, args.minutes, args.calls, args.give)
    print(write_figures(place.out))
    print("done" if is_done else "not done yet: the same command goes on", flush=True)


if __name__ == "__main__":
    main()
