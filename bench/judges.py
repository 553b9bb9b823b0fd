"""What Dollhouse's own judges see in a picture: the evaluator of scenes and heads, and the second recogniser, which
never feeds the adapter. One record a pair."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.painter import WEIGHTS
from bench.pairs import Pair
from bench.preservation import Box, compare_outside
from demo.dollhouse.canvas import Canvas
from demo.dollhouse.draw import draw_body, draw_head, skin_colour
from demo.dollhouse.evaluate import HEAD_CLASSES, Evaluator
from demo.dollhouse.scenes import draw_scene
from demo.dollhouse.world import HEAD_RADIUS
from lib_beyondfacial.faces.alignment import align_face
from lib_beyondfacial.faces.analysis import FaceAnalyser, get_analyser
from lib_beyondfacial.faces.face import Face

BOX_OF_RADIUS = (2.1, 2.2)  # a head's box is 2.1 x 2.2 radii (draw.draw)
WHOLE_PICTURE = 0.9  # of it: where no face is, the analyser tries a border, and then takes the picture itself for one
RADIUS_STEP = 0.01  # of the picture's side; two pixels at 192
WORN = {"expression_accuracy": "expression", "accessory_accuracy": "accessory"}
SHOWN = {"object_accuracy": "item", "modifier_accuracy": "modifier"}
Ceiling = dict[str, float]


@dataclass(frozen=True, eq=False)
class Before:
    """The plain picture of the same prompt and noise, and its record."""

    image: np.ndarray
    record: Mapping[str, Any]

    @property
    def heads(self) -> Sequence[Box]:
        """In shares of the picture."""
        return self.record["heads"]


@dataclass
class Judges:
    """through_vae: a picture as the checkpoint's VAE gives it back."""

    evaluator: Evaluator
    analyser: FaceAnalyser
    through_vae: Callable[[np.ndarray], np.ndarray]
    _persons: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    _ceilings: dict[tuple[int, int], Ceiling] = field(default_factory=dict)

    @classmethod
    def load(cls, through_vae: Callable[[np.ndarray], np.ndarray]) -> Judges:
        return cls(Evaluator.load(), get_analyser(WEIGHTS / "judge" / "dollhouse_judge"), through_vae)

    def records(
        self, pairs: list[Pair], images: list[np.ndarray], before: Sequence[Before | None] | None = None
    ) -> list[dict[str, Any]]:
        """One record a pair. A missed face counts as similarity 0, attributes 0, face area 0.

        before: what each picture's change outside the heads is measured to; None for plain pictures.
        """
        heads = [self.measure_face(pair, image) for pair, image in zip(pairs, images, strict=True)]
        squares = [square_round(image, head["box"]) for image, head in zip(images, heads, strict=True)]
        verdicts = self.evaluator.judge(np.stack(squares))
        records = []
        for i, (pair, image, head) in enumerate(zip(pairs, images, heads, strict=True)):
            shot, scene, action, style = (str(verdicts[key][i]) for key in ("shot", "scene", "action", "style"))
            height, width = image.shape[:2]
            ceiling = self.ceiling(pair, head["face_area"] * width / height, height)
            records.append({
                "shot": shot,
                "scene": scene,
                "action": action,
                "style": style,
                "shot_accuracy": int(shot == "full"),
                "scene_accuracy": int(scene == pair.picture.scene),
                "action_accuracy": int(action == pair.picture.action),
                "close_up": int(shot == "close-up"),
                **{key: is_right(pair, kind, verdicts, i) for key, kind in SHOWN.items()},
                **head,
                **outside(image, head["heads"], before[i] if before else None),
                "ceiling": ceiling["similarity"],
                "attribute_ceiling": ceiling["attribute_accuracy"],
                "picture": hashlib.sha256(image.tobytes()).hexdigest()[:16],
            })  # fmt: skip
        return records

    def person(self, pair: Pair) -> np.ndarray:
        """The reference photo's embedding."""
        return self.embed(pair, "reference")

    def embed(self, pair: Pair, which: str) -> np.ndarray:
        """The embedding of the reference photo, or of another one of the same person ("other")."""
        if (pair.seed, which) not in self._persons:
            photo = pair.photo if which == "reference" else pair.more_photos(1)[0]
            self._persons[pair.seed, which] = self.analyser.find(photo)[0].normed_embedding
        return self._persons[pair.seed, which]

    def find_heads(self, image: np.ndarray) -> list[Face]:
        """All faces, the largest first."""
        height, width = image.shape[:2]
        return [face for face in self.analyser.find(image) if share_of(face.box, width, height) < WHOLE_PICTURE]

    def measure_face(self, pair: Pair, image: np.ndarray) -> dict[str, Any]:
        """The face most like the person: how like, how large, where (shares of the picture), and what it shows."""
        faces = self.find_heads(image)
        boxes = [box_of(face, image) for face in faces]
        if not faces:
            missed = {key: 0 if self.can_ask(pair, kind) else None for key, kind in WORN.items()}
            nothing = {"similarity": 0.0, "attribute_accuracy": 0.0, "face_area": 0.0, "box": None, "heads": []}
            return {"found": 0, **nothing, **missed, "angle_more": None, "angle_photos": None}
        cosines = [float(face.normed_embedding @ self.person(pair)) for face in faces]
        best = int(np.argmax(cosines))
        x0, y0, x1, y1 = boxes[best]
        shown = self.evaluator.attributes(align_face(image, faces[best].landmarks)[None])
        right = [shown[name][0] == getattr(pair.person, name) for name in HEAD_CLASSES]
        return {
            "found": 1,
            "similarity": round(max(cosines), 6),
            "attribute_accuracy": round(float(np.mean(right)), 6),
            "face_area": round((x1 - x0) * (y1 - y0), 6),
            "box": boxes[best],
            "heads": boxes,
            **{key: is_right(pair, kind, shown, 0) for key, kind in WORN.items()},
            **self.measure_copying(pair, faces[best].normed_embedding),
        }

    def can_ask(self, pair: Pair, kind: str) -> bool:
        """Whether the prompt asks for something of this kind that the weights' judge can tell on a head."""
        return pair.asks(kind) and kind in self.evaluator.head_classes

    def measure_copying(self, pair: Pair, embedding: np.ndarray) -> dict[str, float]:
        """The parts of MultiID-Bench's copy-paste measure, in degrees: how much farther the face is from another photo
        of the person than from the reference, and how far these two photos are from each other."""
        reference, other = self.embed(pair, "reference"), self.embed(pair, "other")
        more = angle(embedding, other) - angle(embedding, reference)
        return {"angle_more": round(more, 4), "angle_photos": round(angle(reference, other), 4)}

    def ceiling(self, pair: Pair, face_area: float, side: int) -> Ceiling:
        """What the judge says of the true person, drawn with the prompt's expression and accessory at the found head's
        size and put through the VAE: no picture with a head of that size can be expected to be more like. Where no
        face was found: at a full shot's size."""
        radius = (face_area / (BOX_OF_RADIUS[0] * BOX_OF_RADIUS[1])) ** 0.5 or HEAD_RADIUS["full"]
        step = max(round(radius / RADIUS_STEP), 1)
        if (pair.seed, step) not in self._ceilings:
            measured = self.measure_face(pair, self.through_vae(draw_at_size(pair, step * RADIUS_STEP, side)))
            self._ceilings[pair.seed, step] = {key: measured[key] for key in ("similarity", "attribute_accuracy")}
        return self._ceilings[pair.seed, step]


def is_right(pair: Pair, kind: str, verdicts: Mapping[str, np.ndarray], at: int) -> int | None:
    """Whether what the prompt asks for is there; None where it asks for nothing, or the weights' judge cannot tell."""
    if not pair.asks(kind) or kind not in verdicts:
        return None
    return int(verdicts[kind][at] == getattr(pair.picture, kind))


def outside(image: np.ndarray, heads: Sequence[Box], before: Before | None) -> dict[str, float | None]:
    """How much of the plain picture is left outside the heads; None where there is nothing to compare with."""
    if before is None:
        return dict.fromkeys(("outside_change", "outside_share", "outside_ssim"))
    return compare_outside(image, before.image, [*heads, *before.heads])


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Between two unit vectors, in degrees."""
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def box_of(face: Face, image: np.ndarray) -> list[float]:
    """A face's box, cut to the picture, in shares of it."""
    height, width = image.shape[:2]
    return [round(float(v), 5) for v in np.clip(face.box / [width, height, width, height], 0, 1)]


def square_round(image: np.ndarray, box: list[float] | None) -> np.ndarray:
    """A wide picture's part, as wide as high, that has the head in its middle: the evaluator has seen squares only."""
    height, width = image.shape[:2]
    middle = width * (box[0] + box[2]) / 2 if box else width / 2
    left = round(float(np.clip(middle - height / 2, 0, width - height)))
    return image[:, left : left + height]


def share_of(box: np.ndarray, width: int, height: int) -> float:
    """The part of the picture that lies in a box."""
    x0, y0, x1, y1 = (float(v) for v in np.clip(box / [width, height, width, height], 0, 1))
    return (x1 - x0) * (y1 - y0)


def draw_at_size(pair: Pair, radius: float, side: int) -> np.ndarray:
    """The pair's person in the pair's scene and action, the head of a given radius (share of the side)."""
    rng = np.random.default_rng(pair.seed)
    canvas = Canvas(side, side)
    picture = pair.picture
    draw_scene(canvas, picture.scene, rng)
    x, y = 0.5 + rng.uniform(-0.05, 0.05), max(0.25, min(1.25 * radius, 0.5))
    draw_body(canvas, x, y, radius, picture.action, skin_colour(pair.person.skin), rng)
    draw_head(canvas, x, y, radius, pair.person, picture.expression, picture.accessory)
    return canvas.finish()
