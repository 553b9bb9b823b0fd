"""The file of results, and how two results of one case may differ."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .cases import Case
from .making import Result

Key = tuple[str, str]  # host, case's name
EPS_SAMPLERS = ("DDIM", "PLMS", "UniPC")
NUMBER_CLOSE = 0.01
COUNTS = ("failed", "warnings", "heads_refined", "plain_unchanged")  # equal everywhere


@dataclass(frozen=True)
class Rule:
    """How far pictures and masks may be from the kept ones, in levels of 255; None: as far as they like.

    numbers: the same for reports, whose counts are always equal.
    """

    most: float | None
    mean: float | None
    numbers: float


EXACT = Rule(0, None, 0)
CLOSE = Rule(1, None, NUMBER_CLOSE)
REFINED = Rule(None, 0.5, NUMBER_CLOSE)  # a head that is drawn anew amplifies rounding


def rule_of(host: str, case: Case) -> Rule:
    """Bit-equal, but where A1111's sampler works on eps: a Forge hands x0 to all of them."""
    if host != "a1111" or case.sampler not in EPS_SAMPLERS:
        return EXACT
    return REFINED if case.refines else CLOSE


def find_differences(kept: Result, made: Result, rule: Rule) -> list[str]:
    """What differs by more than the rule allows, each with its size; empty if nothing does."""
    found = []
    for name in ("pictures", "masks"):
        one, other = getattr(kept, name), getattr(made, name)
        if one.shape != other.shape:
            found.append(f"{name} of shape {other.shape} instead of {one.shape}")
            continue
        for i, difference in enumerate(np.abs(one.astype(float) - other)):
            most, mean = difference.max(), difference.mean()
            if (rule.most is not None and most > rule.most) or (rule.mean is not None and mean > rule.mean):
                found.append(f"{name[:-1]} {i + 1} by {most:.0f} at most and {mean:.3f} in the mean")
    for name in sorted(kept.numbers.keys() | made.numbers.keys()):
        one, other = (result.numbers.get(name, np.zeros(0)) for result in (kept, made))
        allowed = 0 if name in COUNTS else rule.numbers
        if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=allowed, equal_nan=True):
            found.append(f"{name} {other.round(8).tolist()} instead of {one.round(8).tolist()}")
    return found


def describe_machine() -> dict[str, Any]:
    """What the last bits of a picture depend on."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {"threads": torch.get_num_threads(), "torch": torch.__version__, "cpu": capability}


def refuse_other_machine(path: Path, recorded: dict[str, Any]) -> None:
    """Exit with a sentence where the file was not made by such a machine."""
    present = describe_machine()
    if recorded != present:
        there, present = ("{threads} thread(s), torch {torch}, {cpu}".format(**each) for each in (recorded, present))
        raise SystemExit(
            f"{path} was recorded with {there}; this is {present}. Bits are not the same there: set OMP_NUM_THREADS "
            "and ATEN_CPU_CAPABILITY as they were, or record the earlier code on this machine."
        )


def save(path: Path, results: dict[Key, Result]) -> None:
    """Write the results and the machine as one .npz, under this very name."""
    arrays: dict[str, np.ndarray] = {"machine": np.array(json.dumps(describe_machine()))}
    for (host, case), result in results.items():
        content = {"pictures": result.pictures, "masks": result.masks, **result.numbers}
        arrays |= {f"{host}/{case}/{name}": array for name, array in content.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path) -> tuple[dict[str, Any], dict[Key, Result]]:
    """The machine and the results of a file that `save` wrote."""
    content: dict[Key, dict[str, np.ndarray]] = {}
    with np.load(path) as file:
        machine = json.loads(str(file["machine"]))
        for key in file.files:
            if key != "machine":
                host, case, name = key.split("/")
                content.setdefault((host, case), {})[name] = file[key]
    return machine, {key: Result(each.pop("pictures"), each.pop("masks"), each) for key, each in content.items()}
