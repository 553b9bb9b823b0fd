"""What is made: persons from a folder, prompts from a file, the methods, and a seed for each person and prompt."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lib_beyondfacial.settings.presets import PRESETS

PROMPTS = Path(__file__).with_name("prompts.txt")
PHOTO_FILES = (".jpg", ".jpeg", ".png", ".webp")
LONGEST = 1280  # px of a photo's side that is sent: faces need no more
WORD_FILE = "word.txt"
SINGLE = {"mask_mode": "whole", "refine_head": False, "idap_strength": 0.0, "rho": 1.0, "weight": 1.0}
METHODS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "single": {**SINGLE, "start": 0.0},
    "late": {**SINGLE, "start": 0.2},
    "ours": {},
    "ours_without_refinement": {"refine_head": False},
    "as_in_the_paper": PRESETS["As in the paper"],
}
SAYS = {
    "plain": "no identity",
    "single": "the adapter in the one line, weight 1",
    "late": "the same, begun after .2 of the steps",
    "ours": "BeyondFacial's defaults",
    "ours_without_refinement": "the same without the head refinement",
    "as_in_the_paper": 'the preset "As in the paper"',
}


@dataclass(frozen=True, eq=False)
class Subject:
    """One person: the photo that is fed, another one that only the judge sees, and the prompt's word for the person
    ("": the judge's gender model decides). number: counted from 1; names never leave the folder."""

    number: int
    fed: np.ndarray
    other: np.ndarray
    word: str

    @property
    def reference(self) -> str:
        """The fed photo, as the API takes it."""
        buffer = io.BytesIO()
        Image.fromarray(self.fed).save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Job:
    """One picture to make. key: of everything that decides what it is."""

    method: str
    subject: int
    prompt: int
    text: str
    seed: int
    key: str


def read_photo(path: Path) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    image.thumbnail((LONGEST, LONGEST))
    return np.asarray(image)


def read_subjects(folder: Path) -> list[Subject]:
    """One person a sub-folder with two or more photos; SystemExit with a sentence where there is none such."""
    subjects = []
    for place in sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []:
        photos = sorted(path for path in place.iterdir() if path.suffix.lower() in PHOTO_FILES)
        if len(photos) < 2:
            print(f"{place.name}: has {len(photos)} photo{'s' * (len(photos) != 1)}, two are needed; left out.")
            continue
        word = (place / WORD_FILE).read_text(encoding="utf-8").strip() if (place / WORD_FILE).exists() else ""
        subjects.append(Subject(len(subjects) + 1, read_photo(photos[0]), read_photo(photos[1]), word))
    if not subjects:
        raise SystemExit(f"{folder}: give a folder with a sub-folder for each person, two or more photos in each.")
    return subjects


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, one a line; {person} stands for the person's word. Empty lines and # are left out."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if wrong := [line for line in prompts if "{person}" not in line]:
        raise SystemExit(f'{path.name}: "{wrong[0][:60]}" has no {{person}}, which stands for "man" or "woman".')
    return prompts


def make_jobs(
    subjects: Sequence[Subject], words: Sequence[str], prompts: Sequence[str], methods: Sequence[str], about: Any
) -> Iterator[Job]:
    """Prompt by prompt all persons with all methods in turn, so that a run that is ended early is paired as far as it
    came.

    words: each person's, for {person}. about: what else decides what the pictures are.
    """
    for p, template in enumerate(prompts):
        for subject, word in zip(subjects, words, strict=True):
            text = template.replace("{person}", word)
            seed = zlib.crc32(f"{p} {subject.number}".encode()) % 2**31
            photo = hashlib.sha256(subject.fed.tobytes()).hexdigest()
            for method in methods:
                content = [METHODS[method], text, seed, photo if METHODS[method] is not None else "", about]
                key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
                yield Job(method, subject.number, p, text, seed, key)
