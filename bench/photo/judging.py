"""The judge of real pictures: a face pack that should be another one than what feeds the adapter, and CLIP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.judges import angle
from bench.photo.jobs import Subject
from bench.photo.webui import Made
from lib_beyondfacial.faces.analysis import FaceAnalyser, get_analyser
from lib_beyondfacial.faces.face import Face
from lib_beyondfacial.faces.packs import find_packs, pack_dirs

CLIP = "openai/clip-vit-large-patch14"
EXPECTED = 1  # faces: every prompt asks for one person
ClipScore = Callable[[np.ndarray, str], float]


def choose_pack(asked: Path | None, models: Path | None, feeding: str) -> FaceAnalyser:
    """The asked pack, else one of the models folder or insightface's own folder whose recogniser is not the feeding
    one, if there is any; SystemExit where there is none at all."""
    if asked is not None:
        return get_analyser(asked)
    folders = [Path.home() / ".insightface" / "models", *(pack_dirs(models) if models else [])]
    packs = [get_analyser(folder, name=name) for name, folder in find_packs(folders).items()]
    if not packs:
        raise SystemExit("No face pack to judge by was found; name a folder of .onnx files with --judge.")
    return min(packs, key=lambda pack: is_same_pack(pack.space, feeding))


def is_same_pack(space: str, feeding: str) -> bool:
    """Whether two packs have the same recogniser, as far as is known: by its hash, else by the pack's name."""
    (name, hashed_here), (other, hashed) = (each.partition(":")[::2] for each in (space, feeding))
    return hashed_here == hashed if hashed else name == other


@dataclass
class Known:
    """What the judge knows of a person: the unit vectors of both photos, and the prompt's word."""

    fed: np.ndarray
    other: np.ndarray
    word: str


def know(subject: Subject, analyser: FaceAnalyser) -> Known:
    faces = [largest(analyser, photo) for photo in (subject.fed, subject.other)]
    if None in faces:
        which = ("first", "second")[faces.index(None)]
        raise SystemExit(f"Person {subject.number}: the judge finds no face in the {which} photo; take another one.")
    word = {"female": "woman", "male": "man"}.get(faces[0].gender or "", "person")
    return Known(faces[0].normed_embedding, faces[1].normed_embedding, subject.word or word)


def largest(analyser: FaceAnalyser, photo: np.ndarray) -> Face | None:
    return next(iter(analyser.find(photo)), None)


def measure(made: Made, known: Known, analyser: FaceAnalyser) -> dict[str, Any]:
    """What one picture shows of the person. similarity: to the photo that was not fed; similarity_fed: to the fed one.
    None: no face was found, or (probe_hit) no mask was asked for."""
    height, width = made.image.shape[:2]
    faces = analyser.find_in_scene(made.image)
    record: dict[str, Any] = {"faces": len(faces), "expected": EXPECTED, "seconds": round(made.seconds, 3)}
    record |= dict.fromkeys(("similarity", "similarity_fed", "angle_more", "box", "probe_hit"))
    record |= {"face_ratio": 0.0, "angle_photos": round(angle(known.fed, known.other), 4), "warnings": made.warnings}
    if not faces:
        return record | {"probe_hit": None if made.mask is None else 0}
    face = max(faces, key=lambda each: float(each.normed_embedding @ known.other))
    x0, y0, x1, y1 = (float(v) for v in np.clip(face.box / [width, height, width, height], 0, 1))
    to_fed, to_other = angle(face.normed_embedding, known.fed), angle(face.normed_embedding, known.other)
    return record | {
        "similarity": round(float(face.normed_embedding @ known.other), 6),
        "similarity_fed": round(float(face.normed_embedding @ known.fed), 6),
        "angle_more": round(to_other - to_fed, 4),
        "face_ratio": round((x1 - x0) * (y1 - y0), 6),
        "box": [round(v, 4) for v in (x0, y0, x1, y1)],
        "probe_hit": None if made.mask is None else hits(made.mask, (x0, y0, x1, y1)),
    }


def hits(mask: np.ndarray, box: tuple[float, float, float, float]) -> int:
    """Whether the mask's centre of mass lies in the face's box (shares of the picture); an empty mask misses."""
    weights = mask.astype(np.float64)
    if not weights.any():
        return 0
    height, width = weights.shape
    x = float((weights.sum(0) * (np.arange(width) + 0.5)).sum() / weights.sum()) / width
    y = float((weights.sum(1) * (np.arange(height) + 0.5)).sum() / weights.sum()) / height
    return int(box[0] <= x <= box[2] and box[1] <= y <= box[3])


def load_clip(asked: str | None) -> ClipScore | None:
    """(picture, prompt) -> CLIP's cosine, of a CLIP in transformers' form on this machine; None without one."""
    try:
        import torch
        from transformers import CLIPModel, CLIPProcessor

        model = CLIPModel.from_pretrained(asked or CLIP, local_files_only=True).eval()
        processor = CLIPProcessor.from_pretrained(asked or CLIP, local_files_only=True)
    except (ImportError, OSError, ValueError) as error:
        if asked:
            raise SystemExit(f"--clip {asked}: no CLIP in transformers' form could be loaded there.") from error
        return None

    def score(image: np.ndarray, prompt: str) -> float:
        given = processor(text=[prompt], images=[image], return_tensors="pt", truncation=True, padding=True)
        with torch.no_grad():
            found = model(**given)
        return round(float(torch.cosine_similarity(found.text_embeds, found.image_embeds)), 6)

    return score
