"""The figures so far against what the models must reach, from a folder of weights: figures.json and figures.txt.

`python -m demo.dollhouse.train.figures --out FOLDER`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demo.dollhouse.evaluate import ADDED_CLASSES, HEAD_CLASSES, WORN_CLASSES

LIMIT_MB = 30.0


@dataclass(frozen=True)
class Target:
    """One figure of the model card and the least (or, `at_most`, the greatest) that it must be."""

    model: str
    figure: str
    bound: float
    read: Callable[[dict], float]
    at_most: bool = False


def kept_attributes(card: dict) -> float:
    """Attribute accuracy on reconstructions of full shots, as a share of that on the renders."""
    back, renders = card["evaluator"]["decoded"], card["evaluator"]["renders"]
    return sum(back[f"{k}_full"] for k in HEAD_CLASSES) / sum(renders[f"{k}_full"] for k in HEAD_CLASSES)


def of_card(*path: str) -> Callable[[dict], float]:
    def read(card: dict) -> float:
        for key in path:
            card = card[key]
        return float(card)

    return read


TARGETS = (
    Target("vae", "attributes kept at full shot", 0.90, kept_attributes),
    Target("unet", "shot", 0.95, of_card("generated_plain", "shot")),
    Target("unet", "scene", 0.95, of_card("generated_plain", "scene")),
    Target("unet", "action", 0.90, of_card("generated_plain", "action")),
    Target("unet", "two people, 1:1", 0.90, of_card("generated_extras", "two", "faces")),
    Target("unet", "two people, 2:1", 0.90, of_card("generated_extras", "two_wide", "faces")),
    Target("unet", "extras asked for", 0.85, of_card("generated_extras", "one", "extra")),
    Target("detector", "recall at full shot", 0.98, of_card("pack_dollhouse", "renders", "recall_full")),
    Target("detector", "mean overlap at full shot", 0.70, of_card("pack_dollhouse", "renders", "iou_full")),
    *(
        Target(
            f"recogniser ({which})",
            f"same/different, {shot}",
            bound,
            of_card(pack, "renders", f"same_different_{shot}"),
        )
        for which, pack in (("feed", "pack_dollhouse"), ("judge", "pack_dollhouse_judge"))
        for shot, bound in (("full", 0.97), ("close-up", 0.99))
    ),
    *(
        Target(
            f"recogniser ({which})",
            "same/different, full, decoded",
            0.97,
            of_card(pack, "decoded", "same_different_full"),
        )
        for which, pack in (("feed", "pack_dollhouse"), ("judge", "pack_dollhouse_judge"))
    ),
    *(
        Target(
            f"recogniser ({which})",
            "same/different, full, extras",
            0.95,
            of_card(pack, "extras", "same_different_full"),
        )
        for which, pack in (("feed", "pack_dollhouse"), ("judge", "pack_dollhouse_judge"))
    ),
    *(
        Target("detector", f"recall of two, {shape}", 0.98, of_card("pack_dollhouse", "extras", f"recall_two_{shape}"))
        for shape in ("1:1", "3:2", "2:1")
    ),
    Target("gender model", "right, full, decoded", 0.97, of_card("genders", "decoded_full")),
    Target("adapter", "attributes, close-up", 0.85, of_card("generated_single_line", "close-up", "attributes")),
    Target("evaluator", "shot", 0.99, of_card("evaluator", "renders", "shot")),
    Target("evaluator", "scene", 0.99, of_card("evaluator", "renders", "scene")),
    Target("evaluator", "action", 0.97, of_card("evaluator", "renders", "action")),
    *(Target("evaluator", k, 0.97, of_card("evaluator", "renders", k)) for k in ADDED_CLASSES),
    *(Target("evaluator", f"{k}, full", 0.97, of_card("evaluator", "renders", f"{k}_full")) for k in WORN_CLASSES),
)


def rows_of(out: Path) -> list[dict[str, object]]:
    path = out / "card.json"
    card = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    size = sum(p.stat().st_size for p in out.rglob("*") if p.suffix in (".safetensors", ".onnx")) / 1e6
    card = card | {"all": {"megabytes": round(size, 2)}}
    rows = []
    for t in (*TARGETS, Target("all", "megabytes", LIMIT_MB, of_card("all", "megabytes"), at_most=True)):
        try:
            value = t.read(card)
        except (KeyError, ZeroDivisionError):
            value = None
        is_met = value is not None and (value <= t.bound if t.at_most else value >= t.bound)
        verdict = "not yet" if value is None else "PASS" if is_met else "short"
        value = None if value is None or math.isnan(value) else value  # nothing found: short, with no value
        rows.append({"model": t.model, "figure": t.figure, "target": t.bound, "value": value, "verdict": verdict})
    return rows


def write_figures(out: Path) -> str:
    """Write both files; the text comes back."""
    rows = rows_of(out)
    lines = [("model", "figure", "target", "value", "")]
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4g}"
        lines.append((str(row["model"]), str(row["figure"]), f"{row['target']:.4g}", value, str(row["verdict"])))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = (
        "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines) + "\n"
    )
    (out / "figures.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (out / "figures.txt").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights and their card")
    print(write_figures(parser.parse_args().out), end="")
