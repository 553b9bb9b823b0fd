"""A resumable training run: AdamW, cosine schedule with warm-up, averaged weights, a checkpoint every two minutes."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from demo.dollhouse.train.muon import Muon
from demo.dollhouse.train.place import Place, add_place_options, place_of

WARM_UP, SAVE_EVERY, FIT_AFTER = 100, 120.0, 20
MANY = 10**9


@dataclass(frozen=True)
class Plan:
    """How long and how a model is trained."""

    steps: int
    batch: int
    lr: float
    muon: bool = False


@dataclass(frozen=True)
class Budget:
    """Seconds that a stage may train for in all, and the moment (`time.monotonic`) at which this call must stop."""

    stage: float = math.inf
    call_ends: float = math.inf


UNLIMITED = Budget()


class Steps(Dataset):
    """Batch number k follows from (seed, k) alone, whoever makes it: one process, or all cores side by side."""

    def __init__(self, make: Callable[[np.random.Generator], Any], seed: int):
        self.make, self.seed = make, seed

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, step: int) -> Any:
        return self.make(np.random.default_rng((self.seed, step)))


def as_it_is(batch: Any) -> Any:
    """Arrays travel between processes as they are; as tensors they would need shared memory, which may be small."""
    return batch


def quiet_worker(_: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def batches_from(make: Callable[[np.random.Generator], Any], seed: int, first: int, workers: int) -> Iterator[Any]:
    """The batches `first`, `first` + 1, ... without an end."""
    extra = {"multiprocessing_context": "fork", "prefetch_factor": 3, "worker_init_fn": quiet_worker}
    return iter(
        DataLoader(
            Steps(make, seed),
            batch_size=None,
            sampler=range(first, MANY),
            collate_fn=as_it_is,
            num_workers=workers,
            **(extra if workers else {}),
        )
    )


class Run:
    """One model's training. Step k draws from generators seeded with (seed, k), so that a run that was stopped and
    resumed is an unbroken one, bit for bit on a CPU.

    With a budget, the number of steps is fitted to the seconds as the pace shows, and so is the schedule's end; the
    number that came out is in the card, and `--steps` repeats it.
    """

    def __init__(self, place: Place, name: str, model: nn.Module, plan: Plan, seed: int = 0):
        self.place, self.name, self.model, self.plan, self.seed = place, name, model, plan, seed
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = (Muon if plan.muon else torch.optim.AdamW)(
            self.trained, lr=plan.lr, weight_decay=1e-2, betas=(0.9, 0.99), **({"fused": True} if place.on_gpu else {})
        )
        self.ema = [p.detach().clone() for p in self.trained]
        self.step, self.first, self.steps, self.spent = 0, 0, plan.steps, 0.0
        self.path = place.cache / f"run_{name}.pt"
        if self.path.exists():
            self._load(torch.load(self.path, weights_only=True, map_location=place.device))

    def _load(self, state: dict[str, Any]) -> None:
        """A checkpoint that travelled light (`bundle.py`) holds the averaged weights alone: they are gone on with."""
        self.step, self.spent, self.steps = state["step"], state["spent"], state["steps"]
        self.first = state["first"]
        self.ema = [value.float() for value in state["ema"]]
        for p, value in zip(self.trained, state["model"] or self.ema, strict=True):
            p.data.copy_(value)
        if state["optimizer"]:
            self.optimizer.load_state_dict(state["optimizer"])
        else:
            self.first = self.step

    def save(self) -> None:
        state = {"model": [p.data for p in self.trained], "ema": self.ema, "step": self.step, "first": self.first}
        state |= {"steps": self.steps, "spent": self.spent, "optimizer": self.optimizer.state_dict()}
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    @property
    def is_done(self) -> bool:
        return self.step >= self.steps

    def _begin_step(self) -> None:
        warm = min(1.0, (self.step - self.first + 1) / min(WARM_UP, 1 + self.steps // 20))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / self.steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.lr * warm * (0.02 + 0.98 * cosine)

    def _end_step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        # The average reaches back over a fortieth of the run, and over less while the run is young.
        decay = min(max(0.98, 1 - 40 / self.steps), (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.ema, [p.data for p in self.trained], 1 - decay)
        self.step += 1

    def train(
        self,
        loss_of: Callable[[Any, torch.Generator], Tensor],
        make: Callable[[np.random.Generator], Any],
        budget: Budget = UNLIMITED,
        workers: int = 0,
    ) -> bool:
        """Go on until the run is done (True) or the call's time is used (False).

        `make(rng)` makes a step's batch, in this process or in `workers` others; `loss_of(batch, generator)` draws
        what is drawn on the device.
        """
        generator = torch.Generator(self.place.device)
        batches = batches_from(make, self.seed, self.step, workers)
        began, before, start = time.monotonic(), self.spent, self.step
        saved, last_line, mean = began, began, None
        while not self.is_done:
            if time.monotonic() > budget.call_ends:
                self.save()
                return False
            generator.manual_seed(self.seed * 10**7 + self.step)
            self._begin_step()
            loss = loss_of(next(batches), generator)
            self._end_step(loss)
            mean = loss.detach() if mean is None else mean.lerp(loss.detach(), 0.02)
            now = time.monotonic()
            self.spent = before + now - began
            made = self.step - start
            if made >= FIT_AFTER and math.isfinite(budget.stage):
                left = (budget.stage - self.spent) / ((now - began) / made)
                self.steps = max(self.step, min(self.plan.steps, self.step + int(left)))
            if now - last_line > 15 or self.is_done:
                last_line = now
                self._tell(float(mean), (now - began) / made)
            if now - saved > SAVE_EVERY or self.is_done:
                saved = now
                self.save()
        return True

    def _tell(self, loss: float, pace: float) -> None:
        left = pace * (self.steps - self.step) / 60
        print(
            f"{self.name} {self.step}/{self.steps} loss {loss:.4f} {pace:.3f} s/step, {left:.1f} min left", flush=True
        )

    def use_ema(self) -> None:
        for p, value in zip(self.trained, self.ema, strict=True):
            p.data.copy_(value)


def single_run(
    doc: str | None, plans: dict[str, Any], train: Callable[..., bool], which: tuple[str, ...] = ()
) -> None:
    """The command line of one model: the place, `--steps --batch --lr`, and `--which` where there are several."""
    parser = argparse.ArgumentParser(description=doc)
    add_place_options(parser)
    for name, kind in (("steps", int), ("batch", int), ("lr", float), ("minutes", float)):
        parser.add_argument(f"--{name}", type=kind)
    if which:
        parser.add_argument("--which", choices=which, required=True)
    args = parser.parse_args()
    place, keywords = place_of(args), {"which": args.which} if which else {}
    given = {k: getattr(args, k) for k in ("steps", "batch", "lr") if getattr(args, k) is not None}
    plan = (plans[args.which] if which else plans)[place.device.type]
    budget = Budget(stage=60 * args.minutes) if args.minutes else UNLIMITED
    train(place, replace(plan, **given), budget, **keywords)
