"""The quality table: methods side by side on the same persons, prompts and seeds, judged by Dollhouse's own judges.

    python -m bench.quality --quick --out DIR

Runs through the embedded host's API with the extension's own script, as a user's request would.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.pairs import Pair, make_pairs

REPOSITORY = Path(__file__).resolve().parents[1]
WEIGHTS = REPOSITORY / "demo" / "dollhouse" / "weights"
QUICK_PAIRS = 64
COLUMNS = ("full_shot", "close_up", "similarity", "scene_accuracy", "action_accuracy")
# None: the extension is off. The others are what the API is given besides the photo.
METHODS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "single_line": {"mask_mode": "whole", "weight": 1.0, "start": 0.0, "idap_strength": 0.0},
    "beyondfacial": {},
}


@dataclass
class Judges:
    """The evaluator of scenes, and the second recogniser, which never feeds the adapter."""

    evaluator: Any
    analyser: Any

    @classmethod
    def load(cls) -> Judges:
        from demo.dollhouse.evaluate import Evaluator
        from lib_beyondfacial.faces.analysis import get_analyser

        return cls(Evaluator.load(), get_analyser(WEIGHTS / "judge" / "dollhouse_judge"))

    def records(self, pairs: list[Pair], images: list[np.ndarray]) -> dict[str, np.ndarray]:
        """One value a pair and column. A missed face counts as similarity 0."""
        seen = self.evaluator.judge(np.stack(images))
        return {
            "full_shot": seen["shot"] == "full",
            "close_up": seen["shot"] == "close-up",
            "similarity": np.array([self.similarity(pair, image) for pair, image in zip(pairs, images, strict=True)]),
            "scene_accuracy": seen["scene"] == np.array([pair.scene for pair in pairs]),
            "action_accuracy": seen["action"] == np.array([pair.action for pair in pairs]),
        }

    def similarity(self, pair: Pair, image: np.ndarray) -> float:
        person = self.analyser.find(pair.photo)[0].normed_embedding
        return max((float(face.normed_embedding @ person) for face in self.analyser.find(image)), default=0.0)


def bootstrap(values: np.ndarray, rng: np.random.Generator, draws: int = 4000) -> tuple[float, float]:
    """The 95% interval of the mean, by resampling pairs."""
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def row_of(method: str, records: dict[str, np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {"method": method, "n": len(next(iter(records.values())))}
    rng = np.random.default_rng(0)  # the same resamples for every method: the comparison stays paired
    for column in COLUMNS:
        values = np.asarray(records[column], np.float64)
        row[column] = round(float(values.mean()), 4)
        row[f"{column}_ci"] = [round(v, 4) for v in bootstrap(values, rng)]
    return row


def generate(host: Any, pair: Pair, extra: dict[str, Any] | None, steps: int) -> np.ndarray:
    request: dict[str, Any] = {
        "prompt": pair.prompt,
        "seed": pair.seed,
        "steps": steps,
        "cfg_scale": 4.0,
        "width": 128,
        "height": 128,
    }
    request["sampler_name"] = "DDIM"
    if extra is not None:
        unit = {"enabled": True, "references": [pair.reference], **extra}
        request["alwayson_scripts"] = {"BeyondFacial": {"args": [unit]}}
    images, _ = host.txt2img(**request)
    return np.asarray(images[0].convert("RGB"))


def run(
    methods: dict[str, dict[str, Any] | None], pairs: list[Pair], steps: int = 20
) -> tuple[list[dict[str, Any]], dict[str, list]]:
    """Every method on every pair -> the table's rows, and the pictures by method."""
    from demo.miniwebui.host import boot

    host, judges = boot(models_dir=WEIGHTS / "models", extensions=[REPOSITORY]), Judges.load()
    rows, pictures = [], {}
    for method, extra in methods.items():
        began, images = time.time(), []
        for i, pair in enumerate(pairs):
            images.append(generate(host, pair, extra, steps))
            pace = (time.time() - began) / (i + 1)
            print(f"\r{method}: {i + 1}/{len(pairs)}, {pace:.2f} s a picture ", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        pictures[method] = images
        rows.append(row_of(method, judges.records(pairs, images)))
    return rows, pictures


def to_markdown(rows: list[dict[str, Any]]) -> str:
    head = ["method", "n", *COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [f"{row[c]:.2f} ({row[c + '_ci'][0]:.2f}-{row[c + '_ci'][1]:.2f})" for c in COLUMNS]
        lines.append("| " + " | ".join([row["method"], str(row["n"]), *cells]) + " |")
    return "\n".join(lines) + "\n"


def contact_sheet(pictures: dict[str, list[np.ndarray]], pairs: list[Pair], most: int = 12) -> np.ndarray:
    """One column a pair: the reference photo, then every method's picture."""
    import cv2

    columns = []
    for i, pair in enumerate(pairs[:most]):
        side = next(iter(pictures.values()))[i].shape[0]
        photo = cv2.resize(pair.photo, (side, side), interpolation=cv2.INTER_AREA)
        columns.append(np.vstack([photo, *(images[i] for images in pictures.values())]))
    return np.hstack(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_PAIRS} pairs, three methods, one file quick.json"
    )
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench" / "out")
    parser.add_argument("--pairs", type=int, default=QUICK_PAIRS)
    parser.add_argument("--split", choices=("tuning", "heldout"), default="tuning")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME:KEY=VALUE,...", help="more methods, by settings")
    args = parser.parse_args()
    methods = {name: METHODS[name] for name in args.methods}
    for spec in args.set:
        name, _, values = spec.partition(":")
        pairs_of = (item.split("=", 1) for item in values.split(",") if item)
        methods[name] = {k: json.loads(v) if v[:1] in "0123456789-tf" else v for k, v in pairs_of}
    pairs = make_pairs(QUICK_PAIRS if args.quick else args.pairs, args.split)
    rows, pictures = run(methods, pairs)
    args.out.mkdir(parents=True, exist_ok=True)
    name = "quick" if args.quick else f"quality_{args.split}"
    (args.out / f"{name}.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    (args.out / f"{name}.md").write_text(to_markdown(rows))
    import cv2

    cv2.imwrite(str(args.out / f"{name}.png"), contact_sheet(pictures, pairs)[..., ::-1])
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
