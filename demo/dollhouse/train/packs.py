"""Measure the face packs end to end, as the extension reads them: `python -m demo.dollhouse.train.packs`.

Through insightface where it is installed, else through the extension's own reading of packs, which gives the same.
Needs the autoencoder. Held-out persons in every shot, as drawn and after a round trip through the autoencoder (what no
generated picture can be expected to surpass); the figures go into the model card.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from demo.dollhouse.draw import draw
from demo.dollhouse.train.detector import empty_scenes
from demo.dollhouse.train.drawing import held_out_people
from demo.dollhouse.train.place import Place, add_place_options, place_of
from demo.dollhouse.train.seeing import decoded, identity_figures, known_mean, same_person_accuracy
from demo.dollhouse.world import SHOTS, random_picture, with_extras
from lib_beyondfacial.common import EMBEDDING_SIZE
from lib_beyondfacial.faces.analysis import FaceAnalyser, get_analyser

FOUND = 0.5  # least overlap with the true head box


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inside = np.prod(np.clip(high - low, 0, None))
    return float(inside / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inside))


class PackResults:
    """What a pack sees in pictures (n, 3 shots, 2, size, size, 3): overlaps, errors, vectors; NaN = missed."""

    def __init__(self, app: FaceAnalyser, images: np.ndarray, truths: list):
        self.overlaps, self.wrong = np.zeros(images.shape[:3]), np.full(images.shape[:3], np.nan)
        self.vectors, self.extra = np.full((*images.shape[:3], EMBEDDING_SIZE), np.nan, np.float32), 0
        for place in np.ndindex(self.overlaps.shape):
            truth = truths[place[0]][place[1]][place[2]]
            faces = app.find(np.asarray(images[place]))
            self.extra += max(0, len(faces) - 1)
            if not faces:
                continue
            best = max(faces, key=lambda f: overlap(f.box, np.array(truth.head_box)))
            self.overlaps[place] = overlap(best.box, np.array(truth.head_box))
            if self.overlaps[place] >= FOUND:
                self.wrong[place] = np.linalg.norm(best.landmarks - truth.landmarks, axis=1).mean() / truth.radius
                self.vectors[place] = best.embedding

    def figures(self) -> dict[str, object]:
        found = self.overlaps >= FOUND
        figures: dict[str, object] = {"pictures": int(found.size)}
        for j, shot in enumerate(SHOTS):
            figures[f"recall_{shot}"] = round(float(found[:, j].mean()), 4)
            figures[f"iou_{shot}"] = known_mean(self.overlaps[:, j][found[:, j]])
            figures[f"landmark_error_{shot}"] = known_mean(self.wrong[:, j], 4)
        figures["extra_faces_per_picture"] = round(self.extra / found.size, 4)
        return {**figures, **identity_figures(self.vectors)}


def to_reference(decoded_vectors: np.ndarray, clean_vectors: np.ndarray) -> dict[str, float]:
    """A person seen through the autoencoder against the clean close-up: the ceiling of any generated picture."""
    unit, reference = (
        v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (decoded_vectors, clean_vectors[:, 0, 0])
    )
    figures = {}
    for j, shot in enumerate(SHOTS):
        vectors_of_shot = unit[:, j, 1]
        same = (vectors_of_shot * reference).sum(-1)
        different = np.concatenate(
            [(vectors_of_shot * np.roll(reference, k, 0)).sum(-1) for k in range(1, len(vectors_of_shot))]
        )
        right = same_person_accuracy(np.nan_to_num(same, nan=-1.0), np.nan_to_num(different, nan=1.0))
        figures[f"same_different_{shot}_to_clean"] = round(right, 4)
        figures[f"cosine_same_{shot}_to_clean"] = known_mean(same)
        figures[f"cosine_different_{shot}_to_clean"] = known_mean(different)
    return figures


def recall_of_two(place: Place, app: FaceAnalyser, most: int = 120) -> dict[str, float]:
    """Share of the heads found in unseen pictures of two people, by the picture's shape, and what else was found."""
    figures, n = {}, min(most, place.amounts.people)
    for shape, width in (("1:1", place.size), ("3:2", place.size * 3 // 2), ("2:1", place.size * 2)):
        rng, found, extra = np.random.default_rng(79), [], 0
        for _ in range(n):
            picture = random_picture(rng, style="flat")
            if picture.shot == "close-up" and width == place.size:
                picture = replace(picture, shot="full")
            image, truth = draw(with_extras(picture, rng, two=1), width, place.size)
            faces = app.find(image)
            extra += max(0, len(faces) - len(truth.heads))
            for head in truth.heads:
                best = max((overlap(f.box, np.array(head.head_box)) for f in faces), default=0.0)
                found.append(best >= FOUND)
        figures |= {f"recall_two_{shape}": round(float(np.mean(found)), 4), f"extra_two_{shape}": round(extra / n, 4)}
    return figures


def measure(place: Place, which: str, persons_decoded: int = 48) -> dict[str, object]:
    app = get_analyser(place.pack(which))
    people, images, truths = held_out_people(place)
    clean = PackResults(app, images, truths)
    empty = [app.find(np.asarray(scene)) for scene in empty_scenes(place, place.amounts.empty_scenes, seed=78)]
    n = min(len(people), persons_decoded)
    back = decoded(place, "people", images[:n].reshape(-1, *images.shape[-3:])).reshape(images[:n].shape)
    soft = PackResults(app, back, truths)
    _, with_them, their_truths = held_out_people(place, second_has_extras=True)
    extras = identity_figures(PackResults(app, with_them, their_truths).vectors)
    return {
        "engine": app.engine,
        "renders": {**clean.figures(), "empty_scenes": len(empty), "faces_in_empty_scenes": sum(map(len, empty))},
        "extras": {**extras, **recall_of_two(place, app)},
        "decoded": {**soft.figures(), **to_reference(soft.vectors, clean.vectors[:n])},
    }


def measure_all(place: Place) -> None:
    for which in ("feed", "judge"):
        place.write_card(f"pack_{place.pack(which).name}", measure(place, which))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_place_options(parser)
    measure_all(place_of(parser.parse_args()))
