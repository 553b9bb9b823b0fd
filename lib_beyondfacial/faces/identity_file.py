"""The file of a saved identity, version 1: safetensors, checked like any file from an unknown source.

    thumbnail            uint8 (128, 128, 3)      the head, RGB
    aligned              uint8 (N, 224, 224, 3)   optional: the faces, for another pack later
    <i>.photos           float32 (N, 512)         unit embeddings in space i, the best photo first
    <i>.norms, .weights  float32 (N,)
    <i>.embedding        float32 (512,)           the identity in space i

and in the header's metadata: format, version, and "identity", JSON of photo_hash, created, gender, norms and spaces.
No photo, no name and no file name is in it: the name is the file's own.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common import EMBEDDING_SIZE, SHORT_HASH
from ..errors import BeyondFacialError
from ..settings import MAX_REFERENCES
from .alignment import ALIGNED
from .face import GENDERS

FORMAT, VERSION = "beyondfacial identity", 1
THUMBNAIL = 128
MAX_SPACES = 8
MAX_FILE = 4_000_000  # 16 crops are 2.4 MB, 8 spaces of 16 embeddings 0.3 MB
MAX_ABOUT = 10_000  # letters: 8 spaces take 1500
UNIT_TOLERANCE = 1e-3
HASH = rf"[0-9a-f]{{{SHORT_HASH}}}"


@dataclass(frozen=True, eq=False)
class Space:
    """The embeddings of one recogniser, the best photo first."""

    id: str
    embedding: np.ndarray
    norm: float
    photos: np.ndarray
    norms: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Record:
    """The content of a file."""

    photo_hash: str
    created: str
    thumbnail: np.ndarray
    spaces: tuple[Space, ...]
    gender: str | None = None
    aligned: np.ndarray | None = field(default=None, repr=False)


def record_to_bytes(record: Record) -> bytes:
    """Serialise a record."""
    from safetensors.numpy import save

    tensors = {"thumbnail": record.thumbnail}
    if record.aligned is not None:
        tensors["aligned"] = record.aligned
    for i, space in enumerate(record.spaces):
        for key in ("embedding", "photos", "norms", "weights"):
            tensors[f"{i}.{key}"] = getattr(space, key)
    about = {
        "photo_hash": record.photo_hash,
        "created": record.created,
        "gender": record.gender,
        "spaces": [space.id for space in record.spaces],
        "norms": [space.norm for space in record.spaces],
    }
    metadata = {"format": FORMAT, "version": str(VERSION), "identity": json.dumps(about)}
    return save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, metadata)


def bytes_to_record(name: str, data: bytes) -> Record:
    """Parse and check a file's content; BeyondFacialError naming the identity if anything is wrong."""
    try:
        from safetensors.numpy import load

        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header["__metadata__"]
        is_ours = metadata["format"] == FORMAT
        version = int(metadata["version"])
        if is_ours and version > VERSION:
            raise BeyondFacialError(
                f'The saved identity "{name}" is of a newer version of BeyondFacial; update the extension.'
            )
        _require(len(metadata["identity"]) < MAX_ABOUT)
        return _checked(tensors, json.loads(metadata["identity"]), is_ours)
    except BeyondFacialError:
        raise
    except Exception as error:  # damaged bytes cause many kinds of exceptions
        raise BeyondFacialError(
            f'The file of the saved identity "{name}" is damaged or no saved identity; delete it and save it again.'
        ) from error


def _checked(tensors: dict[str, np.ndarray], about: dict[str, Any], is_ours: bool) -> Record:
    ids = about["spaces"]
    _require(is_ours and isinstance(ids, list) and 1 <= len(ids) <= MAX_SPACES)
    spaces = tuple(_space(tensors, i, space, about["norms"][i]) for i, space in enumerate(ids))
    count = len(spaces[0].photos)
    _require(1 <= count <= MAX_REFERENCES and all(len(space.photos) == count for space in spaces))
    thumbnail, aligned = tensors["thumbnail"], tensors.get("aligned")
    _require(thumbnail.dtype == np.uint8 and thumbnail.shape == (THUMBNAIL, THUMBNAIL, 3))
    if aligned is not None:
        _require(aligned.dtype == np.uint8 and aligned.shape == (count, ALIGNED, ALIGNED, 3))
    gender = about["gender"]
    _require(gender is None or gender in GENDERS)
    photo_hash, created = about["photo_hash"], about["created"]
    _require(re.fullmatch(HASH, photo_hash) is not None)
    _require(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created) is not None)
    return Record(photo_hash, created, thumbnail, spaces, gender, aligned)


def _space(tensors: dict[str, np.ndarray], i: int, space: str, norm: float) -> Space:
    parts = {key: tensors[f"{i}.{key}"] for key in ("embedding", "photos", "norms", "weights")}
    count = len(parts["photos"])
    shapes = {
        "embedding": (EMBEDDING_SIZE,),
        "photos": (count, EMBEDDING_SIZE),
        "norms": (count,),
        "weights": (count,),
    }
    _require(all(parts[key].shape == shape and parts[key].dtype == np.float32 for key, shape in shapes.items()))
    _require(all(np.isfinite(part).all() for part in parts.values()))
    directions = np.vstack([parts["photos"], parts["embedding"]])
    _require(bool((abs(directions) < 1 + UNIT_TOLERANCE).all()))  # the square of larger numbers may overflow
    _require(bool((abs(np.linalg.norm(directions, axis=1) - 1) < UNIT_TOLERANCE).all()))
    _require(math.isfinite(norm) and norm > 0 and bool((parts["norms"] > 0).all()))
    _require(bool((parts["weights"] >= 0).all()) and abs(float(parts["weights"].sum()) - 1) < UNIT_TOLERANCE)
    _require(re.fullmatch(rf"[^\x00-\x1f:]{{1,100}}:{HASH}", space) is not None)
    return Space(space, norm=float(norm), **parts)


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError("not as written")
