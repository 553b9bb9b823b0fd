"""Is the committed table what this machine makes? A random subset of its pairs made anew, record against record."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import intervals
from bench.collect import Bench
from bench.methods import METHODS, Method
from bench.painter import Sampling
from bench.pairs import Pair, make_pairs
from bench.records import Record
from bench.tables import column, grid

CHECKED = ("shot_accuracy", "scene_accuracy", "action_accuracy", "close_up", "similarity", "attribute_accuracy")
CHECKED += ("object_accuracy", "modifier_accuracy", "expression_accuracy", "accessory_accuracy")
CHECKED += ("outside_change", "outside_share", "outside_ssim", "face_area", "ceiling", "unet_rows", "flicker")


def choose_batches(records: list[Record], n: int, seed: int) -> list[list[int]]:
    """Random batches as they were made, of at least n pairs together (all of them where there are fewer): a picture
    made in other company has other rounding, and would not be bit-equal."""
    batches = [list(batch) for batch in sorted({tuple(record["batch"]) for record in records})]
    chosen: list[list[int]] = []
    for i in np.random.default_rng(seed).permutation(len(batches)):
        if sum(map(len, chosen)) >= n:
            break
        chosen.append(batches[i])
    return sorted(chosen)


def compare(committed: list[Record], fresh: list[Record]) -> dict[str, Any]:
    """One method's records, old and new, of the same pairs.

    A column agrees where it is equal pair by pair, or where the new mean lies in the old one's 95% interval.
    """
    same = sum(a["picture"] == b["picture"] for a, b in zip(committed, fresh, strict=True))
    columns = {}
    for name in CHECKED:
        old, new = column(committed, name), column(fresh, name)
        if old is None or new is None:
            columns[name] = {"equal": old is new, "agrees": old is new}
            continue
        estimate = intervals.mean(old)
        is_within = estimate.low - 1e-9 <= new.mean() <= estimate.high + 1e-9
        equal = bool(np.array_equal(old, new))
        values = {"committed": round(estimate.value, 4), "fresh": round(float(new.mean()), 4)}
        columns[name] = {**values, "equal": equal, "agrees": equal or bool(is_within)}
    return {
        "n": len(fresh),
        "bit_equal": same,
        "columns": columns,
        "agrees": all(c["agrees"] for c in columns.values()),
    }


def recompute(
    records: dict[str, list[Record]], about: dict[str, Any], methods: list[Method], n: int, seed: int, device: str
) -> dict[str, Any]:
    """A random subset of the committed records made anew with nothing kept, method by method."""
    batches = choose_batches(min((records[method.name] for method in methods), key=len), n, seed)
    members = [pair for batch in batches for pair in batch]
    pairs: list[Pair] = make_pairs(max(members) + 1, about["split"])
    sampling = Sampling(**about["sampling"])
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(about["split"], sampling, device, cache=Path(folder))
        fresh = bench.collect(methods, [[pairs[i] for i in batch] for batch in batches])
    old = {name: {record["pair"]: record for record in of_method} for name, of_method in records.items()}
    return {
        method.name: compare([old[method.name][i] for i in sorted(members)], fresh[method.name]) for method in methods
    }


def methods_of(records: dict[str, list[Record]], asked: list[str] | None) -> list[Method]:
    """Those that were committed and are still known, or of these the ones asked for."""
    names = [name for name in records if name in METHODS and (asked is None or name in asked)]
    if not names:
        raise SystemExit(f"None of these methods has committed records; there are: {', '.join(records)}.")
    return [METHODS[name] for name in names]


def to_markdown(verdicts: dict[str, Any]) -> str:
    lines = []
    for name, verdict in verdicts.items():
        off = [
            f"{column}: {values['committed']} then, {values['fresh']} now" if "fresh" in values else column
            for column, values in verdict["columns"].items()
            if not values["agrees"]
        ]
        answer = "yes" if verdict["agrees"] else "**no**: " + "; ".join(off)
        lines.append([name, str(verdict["n"]), f"{verdict['bit_equal']} of {verdict['n']}", answer])
    return grid(["method", "n", "pictures bit-equal", "agrees"], lines)
