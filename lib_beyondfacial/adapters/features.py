"""The features of a person that adapter families use, and how each is computed.

A new feature needs one entry in FEATURES; UI, API and generation use that table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..common import SHORT_HASH, hash_file
from ..errors import BeyondFacialError
from . import clip_vision

Features = Mapping[str, Tensor]


class FaceRecord(Protocol):
    """The data that features are computed from; faces.Identity has it.

    name: of the saved identity, "" for photos.
    embedding: ArcFace's unit direction of the person, float32 (512,); norm: length of the raw embedding.
    photos: unit embeddings of the photos used, float32 (N, 512), the best first.
    aligned: their faces at twice ArcFace's template, RGB uint8 (N, 224, 224, 3); None where they were not kept.
    features: features that were computed before, "<name>:<short hash of the model's file>", float32.
    """

    @property
    def name(self) -> str: ...
    @property
    def embedding(self) -> np.ndarray: ...
    @property
    def norm(self) -> float: ...
    @property
    def photos(self) -> np.ndarray: ...
    @property
    def aligned(self) -> np.ndarray | None: ...
    @property
    def features(self) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True)
class FeatureModel:
    """A model that users have to install for a feature.

    label: its name for users.
    list_files: finds the files by name in the host's models folders, the most likely first.
    missing: the error sentence if there is none.
    """

    label: str
    list_files: Callable[[Iterable[Path]], dict[str, Path]]
    missing: str

    def choose(self, models_dirs: Iterable[Path]) -> Path:
        """The most likely file; BeyondFacialError if there is none."""
        files = self.list_files(models_dirs)
        if not files:
            raise BeyondFacialError(self.missing)
        return next(iter(files.values()))


@dataclass(frozen=True)
class Feature:
    """One feature: compute(record, models_dirs) -> fp32 on the CPU, or BeyondFacialError; and the model it needs."""

    compute: Callable[[FaceRecord, Iterable[Path]], Tensor]
    model: FeatureModel | None = None


def compute_features(record: FaceRecord, names: Iterable[str], models_dirs: Iterable[Path]) -> dict[str, Tensor]:
    """The named features of one person.

    Args:
        names: keys of FEATURES, as in Family.features.
        models_dirs: the host's models folders, the first one searched first.

    Raises BeyondFacialError if the person or the folders lack something that a feature needs.
    """
    models_dirs = tuple(models_dirs)
    return {name: FEATURES[name].compute(record, models_dirs) for name in names}


def compute_portable(record: FaceRecord, names: Iterable[str], models_dirs: Iterable[Path]) -> dict[str, np.ndarray]:
    """Those of the named features that need a model, under "<name>:<short hash of the model's file>".

    What the record carries already is taken as it is. Raises BeyondFacialError as compute_features does.
    """
    models_dirs = tuple(models_dirs)
    found: dict[str, np.ndarray] = {}
    for name in names:
        model = FEATURES[name].model
        if model is not None:
            carried = {key: value for key, value in record.features.items() if key.startswith(f"{name}:")}
            found |= carried or {
                f"{name}:{_hash(model.choose(models_dirs))}": FEATURES[name].compute(record, models_dirs).numpy()
            }
    return found


def _hash(path: Path) -> str:
    try:
        stat = path.stat()
        return _hash_of(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise BeyondFacialError(f'The model "{path.name}" is gone; put it back or choose another adapter.') from error


@functools.lru_cache(maxsize=4)
def _hash_of(path: Path, _mtime_ns: int, _size: int) -> str:
    return hash_file(path)[:SHORT_HASH]


def list_models(models_dirs: Iterable[Path]) -> dict[str, list[str]]:
    """Map each feature that needs a model to the names of the model files found."""
    models_dirs = tuple(models_dirs)
    return {name: list(each.model.list_files(models_dirs)) for name, each in FEATURES.items() if each.model}


def _arcface(record: FaceRecord, _models_dirs: Iterable[Path]) -> Tensor:
    return torch.from_numpy(record.embedding).float()[None]


def _arcface_raw(record: FaceRecord, models_dirs: Iterable[Path]) -> Tensor:
    return _arcface(record, models_dirs) * record.norm


def _arcface_photos(record: FaceRecord, _models_dirs: Iterable[Path]) -> Tensor:
    return torch.from_numpy(record.photos).float()


def _clip(record: FaceRecord, models_dirs: Iterable[Path]) -> Tensor:
    for key, value in record.features.items():
        if key.startswith("clip:") and value.shape == clip_vision.VIT_H.output:
            return torch.from_numpy(value).float()
    if record.aligned is None or not len(record.aligned):
        raise BeyondFacialError(
            f'The saved identity "{record.name}" holds no face crops, which this adapter needs; save it again from '
            'its photos with "keep_crops", or choose another adapter.'
            if record.name
            else '"embedding" holds neither CLIP features nor face crops, one of which this adapter needs; export it '
            'again with "adapter" set to this adapter, or with "keep_crops", or choose another adapter.'
        )
    return clip_vision.encode_face(CLIP_MODEL.choose(models_dirs), record.aligned[0])


CLIP_MODEL = FeatureModel(
    label="CLIP vision model",
    list_files=clip_vision.list_clip_models,
    missing="This adapter needs a CLIP vision model, and none was found; put CLIP-ViT-H "
    '("models/image_encoder/model.safetensors" of "h94/IP-Adapter" on Hugging Face) as "CLIP-ViT-H-14.safetensors" '
    "into the folder models/clip_vision, or choose another adapter.",
)
FEATURES: dict[str, Feature] = {
    "arcface": Feature(_arcface),  # (1, 512), the person's unit embedding
    "arcface_raw": Feature(_arcface_raw),  # (1, 512), the same as long as the recogniser gives it
    "arcface_photos": Feature(_arcface_photos),  # (N, 512), the unit embedding of each photo, the best first
    "clip": Feature(_clip, CLIP_MODEL),  # (1, 257, 1280), CLIP-ViT-H's hidden_states[-2] of the best photo's face
}
