"""What the judges see in a picture of two: how many people, whose face is where, and how like whom."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.judges import WHOLE_PICTURE, Before, Judges, box_of, outside, share_of
from bench.people import PeoplePair
from lib_beyondfacial.faces.alignment import align_face
from lib_beyondfacial.faces.face import Face
from lib_beyondfacial.method.assignment import assign

EXPECTED_AT = (0.3, 0.7)  # where two heads are expected, in shares of the width, where the plain picture does not tell


@dataclass
class PeopleJudges(Judges):
    """Judges of pictures that are to show two persons."""

    @classmethod
    def load(cls, through_vae: Callable[[np.ndarray], np.ndarray]) -> PeopleJudges:
        single = Judges.load(through_vae)
        return cls(single.evaluator, single.analyser, through_vae)

    def records(
        self, pairs: list[PeoplePair], images: list[np.ndarray], before: Sequence[Before] | None = None
    ) -> list[dict[str, Any]]:
        """One record a pair. A missed face counts as similarity 0.

        Whose face is where: the plain picture of the same noise tells where the man and the woman are, or the prompt's
        order does; "position" is from the left. Every found face goes to the person whose place is nearest.
        """
        verdicts = self.evaluator.judge(np.stack(images))
        records = []
        for i, (pair, image) in enumerate(zip(pairs, images, strict=True)):
            faces = self.find_people(image)
            heads, genders = [box_of(face, image) for face in faces], self.genders(image, faces)
            count = int(verdicts["count"][i]) if "count" in verdicts else len(faces)
            known = before[i].record if before else {"heads": heads, "genders": genders}
            records.append({
                "count": count,
                "count_accuracy": int(count == 2),
                "faces": len(faces),
                "shot_accuracy": int(verdicts["shot"][i] == "full"),
                "scene_accuracy": int(verdicts["scene"][i] == pair.picture.scene),
                "action_accuracy": int(verdicts["action"][i] == pair.picture.action),
                "heads": heads,
                "genders": genders,
                **self.measure_people(pair, image, faces, places_of(pair, known)),
                **outside(image, heads, before[i] if before else None),
                "picture": hashlib.sha256(image.tobytes()).hexdigest()[:16],
            })  # fmt: skip
            if pair.assign == "one":
                records[-1] |= measure_one(records[-1], known)
        return records

    def find_people(self, image: np.ndarray) -> list[Face]:
        """All faces, from the left."""
        height, width = image.shape[:2]
        found = self.analyser.find_in_scene(image, wanted=2)
        faces = [face for face in found if share_of(face.box, width, height) < WHOLE_PICTURE]
        return sorted(faces, key=lambda face: float(face.box[0] + face.box[2]))

    def genders(self, image: np.ndarray, faces: list[Face]) -> list[str]:
        if not faces:
            return []
        crops = np.stack([align_face(image, face.landmarks) for face in faces])
        return [str(each) for each in self.evaluator.attributes(crops)["gender"]]

    def measure_people(
        self, pair: PeoplePair, image: np.ndarray, faces: list[Face], places: Sequence[float]
    ) -> dict[str, Any]:
        """How like whom each face is; places: where each person is to be, in shares of the width."""
        height, width = image.shape[:2]
        cosines = [[float(f.normed_embedding @ self.person(each)) for each in pair.singles] for f in faces]
        centres = [float(face.box[0] + face.box[2]) / (2 * width) for face in faces]
        chosen = assign([[abs(place - x) for x in centres] for place in places])
        similarity = [0.0 if j is None else cosines[j][k] for k, j in enumerate(chosen)]
        areas = [0.0 if j is None else share_of(faces[j].box, width, height) for j in chosen]
        ceilings = [
            self.ceiling(each, area * width / height, height)["similarity"]
            for each, area in zip(pair.singles, areas, strict=True)
        ]
        found = [(k, j) for k, j in enumerate(chosen) if j is not None]
        crossed = [cosines[j][1 - k] for k, j in found]
        return {
            "similarity_first": round(similarity[0], 6),
            "similarity_second": round(similarity[1], 6),
            "similarity": round(sum(similarity) / 2, 6),
            "ceiling": round(sum(ceilings) / 2, 6),
            "ceiling_first": ceilings[0],
            "ceiling_second": ceilings[1],
            "swapped": int(sum(crossed) > sum(similarity)) if len(found) == 2 else None,
            "leak": round(max(crossed), 6) if crossed else None,
            "id_conf": round(float(np.mean([confidence(cosines[j]) for _, j in found])), 6) if found else None,
            "cosines": [[round(v, 6) for v in of_face] for of_face in cosines],
        }


def confidence(cosines: Sequence[float]) -> float:
    """UMO's ID-Conf of one face: clip(1 - second best / best cosine, 0, 1); 0 where the face is like nobody."""
    second, best = sorted(cosines)[-2:]
    return float(np.clip(1 - second / best, 0, 1)) if best > 0 else 0.0


def places_of(pair: PeoplePair, plain: dict[str, Any]) -> list[float]:
    """Where the first and the second person are to be, in shares of the width.

    plain: the plain picture's record.
    """
    xs = [(box[0] + box[2]) / 2 for box in plain["heads"]]
    left, right = xs if len(xs) == 2 else EXPECTED_AT
    first_is_left = pair.first_is_left
    if pair.assign == "subject" and len(xs) == 2 and len(set(plain["genders"])) == 2:
        first_is_left = plain["genders"][0] == pair.people[0].gender
    return [left, right] if first_is_left else [right, left]


def measure_one(record: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """With one photo: the face that is most like the person, the highest similarity of any other one, and what the
    faces had in the plain picture that are nearest to these others."""
    likeness = [of_face[0] for of_face in record["cosines"]]
    if not likeness:
        return {"similarity_chosen": 0.0, "leak_other": None, "leak_other_plain": None}
    chosen = int(np.argmax(likeness))
    others = [j for j in range(len(likeness)) if j != chosen]
    highest = max((likeness[j] for j in others), default=None)
    return {
        "similarity_chosen": likeness[chosen],
        "leak_other": highest,
        "leak_other_plain": plain_of(record, others, plain) if "cosines" in plain else highest,
    }


def plain_of(record: dict[str, Any], others: list[int], plain: dict[str, Any]) -> float | None:
    """The highest similarity of the plain picture's faces that are nearest to these faces."""
    if not others or not plain["heads"]:
        return None
    xs = np.array([(box[0] + box[2]) / 2 for box in plain["heads"]])
    nearest = [int(np.abs(xs - (record["heads"][j][0] + record["heads"][j][2]) / 2).argmin()) for j in others]
    return max(plain["cosines"][j][0] for j in nearest)
