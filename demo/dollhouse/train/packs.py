"""Measure the face packs through insightface itself, end to end: `python -m demo.dollhouse.train.packs`.

Needs insightface and onnxruntime, and the autoencoder. Held-out persons in every shot, as drawn and after a round trip
through the autoencoder (what no generated picture can be expected to surpass); the figures go into the model card.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

import numpy as np

from demo.dollhouse.train.common import write_card
from demo.dollhouse.train.detector import empty_scenes
from demo.dollhouse.train.recogniser import EMBEDDING
from demo.dollhouse.train.seeing import PACK_OF, decoded, held_out_people, identity_figures, same_person_accuracy
from demo.dollhouse.world import SHOTS

if TYPE_CHECKING:
    from insightface.app import FaceAnalysis

FOUND = 0.5  # least overlap with the true head box


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inside = np.prod(np.clip(high - low, 0, None))
    return float(inside / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inside))


class Seen:
    """What a pack sees in pictures (n, 3 shots, 2, 128, 128, 3): overlaps, landmark errors, vectors; NaN = missed."""

    def __init__(self, app: FaceAnalysis, images: np.ndarray, truths: list):
        self.overlaps, self.wrong = np.zeros(images.shape[:3]), np.full(images.shape[:3], np.nan)
        self.vectors, self.extra = np.full((*images.shape[:3], EMBEDDING), np.nan, np.float32), 0
        for place in np.ndindex(self.overlaps.shape):
            truth = truths[place[0]][place[1]][place[2]]
            faces = app.get(np.ascontiguousarray(images[place][..., ::-1]))
            self.extra += max(0, len(faces) - 1)
            if not faces:
                continue
            best = max(faces, key=lambda f: overlap(f.bbox, np.array(truth.head_box)))
            self.overlaps[place] = overlap(best.bbox, np.array(truth.head_box))
            if self.overlaps[place] >= FOUND:
                self.wrong[place] = np.linalg.norm(best.kps - truth.landmarks, axis=1).mean() / truth.radius
                self.vectors[place] = best.embedding

    def figures(self) -> dict[str, object]:
        found = self.overlaps >= FOUND
        figures: dict[str, object] = {"pictures": int(found.size)}
        for j, shot in enumerate(SHOTS):
            figures[f"recall_{shot}"] = round(float(found[:, j].mean()), 4)
            figures[f"iou_{shot}"] = round(float(self.overlaps[:, j][found[:, j]].mean()), 3)
            figures[f"landmark_error_{shot}"] = round(float(np.nanmean(self.wrong[:, j])), 4)
        figures["extra_faces_per_picture"] = round(self.extra / found.size, 4)
        return {**figures, **identity_figures(self.vectors)}


def to_reference(decoded_vectors: np.ndarray, clean_vectors: np.ndarray) -> dict[str, float]:
    """A person seen through the autoencoder against the clean close-up: the ceiling of any generated picture."""
    unit, reference = (
        v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (decoded_vectors, clean_vectors[:, 0, 0])
    )
    figures = {}
    for j, shot in enumerate(SHOTS):
        mine = unit[:, j, 1]
        same = (mine * reference).sum(-1)
        different = np.concatenate([(mine * np.roll(reference, k, 0)).sum(-1) for k in range(1, len(mine))])
        right = same_person_accuracy(np.nan_to_num(same, nan=-1.0), np.nan_to_num(different, nan=1.0))
        figures[f"same_different_{shot}_to_clean"] = round(right, 4)
        figures[f"cosine_same_{shot}_to_clean"] = round(float(np.nanmean(same)), 3)
        figures[f"cosine_different_{shot}_to_clean"] = round(float(np.nanmean(different)), 3)
    return figures


def measure(which: str, persons_decoded: int = 48) -> dict[str, object]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from insightface.app import FaceAnalysis  # noqa: PLC0415  only this command needs it

    app = FaceAnalysis(name=str(PACK_OF[which]), providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=-1, det_size=(128, 128))
    _, images, truths = held_out_people()
    clean = Seen(app, images, truths)
    empty = [app.get(np.ascontiguousarray(scene[..., ::-1])) for scene in empty_scenes(240, seed=78)]
    some = images[:persons_decoded]
    back = decoded(f"people_{persons_decoded}", lambda: some.reshape(-1, *some.shape[-3:])).reshape(some.shape)
    soft = Seen(app, back, truths)
    return {
        "renders": {**clean.figures(), "faces_in_240_empty_scenes": sum(map(len, empty))},
        "decoded": {**soft.figures(), **to_reference(soft.vectors, clean.vectors[:persons_decoded])},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--which", choices=tuple(PACK_OF), nargs="*", default=tuple(PACK_OF))
    for which in parser.parse_args().which:
        write_card(f"pack_{PACK_OF[which].name}", measure(which))


if __name__ == "__main__":
    main()
