"""Measure the face packs through insightface itself, end to end: `python -m demo.dollhouse.train.packs`.

Needs insightface and onnxruntime. Held-out persons in every shot; the figures go into the model card.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from demo.dollhouse.train.common import write_card
from demo.dollhouse.train.detector import empty_scenes
from demo.dollhouse.train.recogniser import EMBEDDING
from demo.dollhouse.train.seeing import PACK_OF, held_out_people, identity_figures
from demo.dollhouse.world import SHOTS


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inside = np.prod(np.clip(high - low, 0, None))
    return float(inside / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inside))


def measure(which: str) -> dict[str, object]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from insightface.app import FaceAnalysis  # noqa: PLC0415  only this command needs it

    app = FaceAnalysis(name=str(PACK_OF[which]), providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=-1, det_size=(128, 128))
    _, images, truths = held_out_people()
    n = len(images)
    overlaps, wrong, extra = np.zeros((n, len(SHOTS), 2)), np.full((n, len(SHOTS), 2), np.nan), 0
    vectors = np.full((n, len(SHOTS), 2, EMBEDDING), np.nan, np.float32)
    for place in np.ndindex(overlaps.shape):
        i, j, k = place
        truth = truths[i][j][k]
        faces = app.get(np.ascontiguousarray(images[place][..., ::-1]))
        extra += max(0, len(faces) - 1)
        if not faces:
            continue
        best = max(faces, key=lambda f: overlap(f.bbox, np.array(truth.head_box)))
        overlaps[place] = overlap(best.bbox, np.array(truth.head_box))
        if overlaps[place] >= 0.5:
            wrong[place] = np.linalg.norm(best.kps - truth.landmarks, axis=1).mean() / truth.radius
            if "recognition" in app.models:
                vectors[place] = best.embedding
    found = overlaps >= 0.5
    figures: dict[str, object] = {"pictures": int(found.size)}
    for j, shot in enumerate(SHOTS):
        figures[f"recall_{shot}"] = round(float(found[:, j].mean()), 4)
        figures[f"iou_{shot}"] = round(float(overlaps[:, j][found[:, j]].mean()), 3)
        figures[f"landmark_error_{shot}"] = round(float(np.nanmean(wrong[:, j])), 4)
    figures["extra_faces_per_picture"] = round(extra / found.size, 4)
    empty = [app.get(np.ascontiguousarray(scene[..., ::-1])) for scene in empty_scenes(240, seed=78)]
    figures["faces_in_240_empty_scenes"] = sum(map(len, empty))
    return {**figures, **identity_figures(vectors)} if "recognition" in app.models else figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--which", choices=tuple(PACK_OF), nargs="*", default=tuple(PACK_OF))
    for which in parser.parse_args().which:
        write_card(f"pack_{PACK_OF[which].name}", measure(which))


if __name__ == "__main__":
    main()
