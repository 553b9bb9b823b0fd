"""What it costs to look at a photo: milliseconds and memory, beside plain insightface on the same pack.

    python -m bench.faces [--pack FOLDER] [--photos 60]

Each row is measured in a process of its own, in five rounds, of which the least counts. Cold: importing, loading the
pack, the first photo. Warm: the median over the photos that follow. A photo in which no face is found is the dearest:
every detector size, then all with a border. Cold and memory have torch in them, which a web UI has loaded anyway.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
PACK = REPOSITORY / "demo/dollhouse/weights/models/insightface/models/dollhouse"
RESULTS = REPOSITORY / "bench" / "results"
ROUNDS = 5
SIDE = 1024  # of the photos, as phones send them
COLUMNS = {
    "cold_ms": "cold, ms",
    "warm_ms": "warm, ms a photo",
    "faceless_ms": "no face, ms a photo",
    "identity_ms": "JPEG to identity, ms a photo",
    "rss_mb": "memory, MB",
    "grown_mb": "grown after five photos, MB",
}
ROWS = {
    "plain": "plain insightface",
    "insightface": "BeyondFacial, on insightface",
    "onnxruntime": "BeyondFacial, on onnxruntime alone",
}


def rss_mb() -> float:
    """Resident memory of this process now; NaN where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if statm.exists() else float("nan")


def draw_photos(count: int) -> list[bytes]:
    """JPEG files of drawn persons, always the same."""
    from demo.dollhouse.draw import draw
    from demo.dollhouse.world import random_picture

    rng, files = np.random.default_rng(31), []
    for _ in range(count):
        picture = draw(random_picture(rng, shot="close-up", style="flat"), 384, 384)[0]
        buffer = io.BytesIO()
        Image.fromarray(picture).resize((SIDE, SIDE)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def milliseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def load_plain(pack: Path) -> Callable[[np.ndarray], list]:
    """insightface as its readme says, at the size that the detector takes."""
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name=str(pack), providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=0, det_size=(640, 640))
    return lambda image: app.get(np.ascontiguousarray(image[..., ::-1]))


def measure(row: str, pack: Path, count: int) -> dict[str, float | None]:
    """One row, in this process."""
    files = draw_photos(count)
    images = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    empty = np.full((SIDE, SIDE, 3), 90, np.uint8)
    before, began = rss_mb(), time.perf_counter()
    if row == "onnxruntime":
        sys.modules["insightface"] = None  # type: ignore[assignment]  # as where it cannot be imported
    if row == "plain":
        find, identify = load_plain(pack), None
    else:
        from lib_beyondfacial.faces import aggregate_photos, decode_photo, get_analyser

        analyser = get_analyser(pack)
        assert analyser.engine == row
        find = analyser.find

        def identify(file: bytes) -> object:
            return aggregate_photos([decode_photo("photo", file)], analyser)

    assert find(images[0])
    cold = (time.perf_counter() - began) * 1000
    warm, sizes = [], []
    for image in images[1:]:
        warm.append(milliseconds(lambda image=image: find(image)))
        sizes.append(rss_mb())
    found: dict[str, float | None] = {
        "cold_ms": cold,
        "warm_ms": statistics.median(warm),
        "faceless_ms": statistics.median(milliseconds(lambda: find(empty)) for _ in range(10)),
        "identity_ms": None,
    }
    if identify is not None:
        found["identity_ms"] = statistics.median(milliseconds(lambda file=file: identify(file)) for file in files)
    return found | {"rss_mb": rss_mb() - before, "grown_mb": sizes[-1] - sizes[4]}


def run(pack: Path, count: int) -> dict[str, dict[str, Any]]:
    """The least of each figure over the rounds: what else the machine does only ever adds."""
    rounds: dict[str, list[dict[str, Any]]] = {row: [] for row in ROWS}
    for row in [*ROWS] * ROUNDS:
        command = [sys.executable, "-m", "bench.faces", "--one", row, "--pack", str(pack), "--photos", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
        if done.returncode:
            raise SystemExit(f"{row}: {done.stderr[-2000:]}")
        rounds[row].append(json.loads(done.stdout.splitlines()[-1]))
    return {row: {key: least(each[key] for each in measured) for key in COLUMNS} for row, measured in rounds.items()}


def least(values: Iterable[float | None]) -> float | None:
    return min((round(value, 1) for value in values if value is not None), default=None)


def to_markdown(rows: dict[str, dict[str, Any]], about: dict[str, Any]) -> str:
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row, values in rows.items():
        cells = ["" if values[key] is None else f"{values[key]:.1f}" for key in COLUMNS]
        lines.append("| " + " | ".join([ROWS[row], *cells]) + " |")
    facts = ", ".join(f"{key} {value}" for key, value in about.items())
    return "\n".join(lines) + f"\n\n{facts}. Memory: beyond Python with NumPy and Pillow, at the end.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default=PACK, help="a folder of .onnx files; the demo's own by default")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", choices=ROWS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.pack.resolve(), args.photos)))
        return
    about = {
        "pack": args.pack.name,
        "photos": args.photos,
        "pixels": f"{SIDE} x {SIDE}",
        "rounds": ROUNDS,
        "cores": os.cpu_count(),
    }
    rows = run(args.pack.resolve(), args.photos)
    args.out.mkdir(parents=True, exist_ok=True)
    content = {"about": {**about, "machine": platform.machine(), "python": platform.python_version()}, "rows": rows}
    (args.out / "faces.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (args.out / "faces.md").write_text(to_markdown(rows, about), encoding="utf-8")
    print(to_markdown(rows, about))


if __name__ == "__main__":
    main()
