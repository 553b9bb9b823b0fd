"""The file of a saved identity, version 1: safetensors, checked like any file from an unknown source.

    thumbnail            uint8 (128, 128, 3)      the head, RGB
    aligned              uint8 (N, 224, 224, 3)   optional: the faces, for another pack later
    clip:<hash>          float32                  optional: a feature of the best face, made by the model of this hash
    <i>.photos           float32 (N, 512)         unit embeddings in space i, the best photo first
    <i>.norms, .weights  float32 (N,)
    <i>.embedding        float32 (512,)           the identity in space i

and in the header's metadata: format, version, and "identity", JSON of photo_hash, created, gender, norms and spaces.
No photo, no name and no file name is in it: the name is the file's own.

An exported identity (the setting "embedding") is the same content as base64 text; its thumbnail may be left out, or be
256 px, the size that a run takes. Only exports have features.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common import EMBEDDING_SIZE, SHORT_HASH
from ..errors import BeyondFacialError
from ..settings import MAX_EMBEDDING, MAX_REFERENCES
from .alignment import ALIGNED
from .face import GENDERS

FORMAT, VERSION = "beyondfacial identity", 1
THUMBNAIL, HEAD = 128, 256
MAX_SPACES = 8
MAX_FILE = 4_000_000  # 16 crops are 2.4 MB, 8 spaces of 16 embeddings 0.3 MB
MAX_EXPORT = MAX_EMBEDDING * 3 // 4  # 4 MB, and 2 features of 257 x 1280 numbers
MAX_HEADER = 30_000  # bytes: 8 spaces take 5000
MAX_ABOUT = 10_000  # letters: 8 spaces take 1500
MAX_FEATURES, MAX_NUMBERS = 2, 400_000
UNIT_TOLERANCE = 1e-3
HASH = rf"[0-9a-f]{{{SHORT_HASH}}}"
FEATURE = rf"[a-z_]{{1,30}}:{HASH}"


class NewerFormatError(ValueError):
    """Written by a later version of the extension."""


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
    """The content of a file or an export."""

    photo_hash: str
    created: str
    thumbnail: np.ndarray | None
    spaces: tuple[Space, ...]
    gender: str | None = None
    aligned: np.ndarray | None = field(default=None, repr=False)
    features: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)


def record_to_bytes(record: Record) -> bytes:
    """Serialise a record."""
    from safetensors.numpy import save

    tensors = dict(record.features)
    if record.thumbnail is not None:
        tensors["thumbnail"] = record.thumbnail
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
        record = parse_record(data)
        _require(record.thumbnail is not None and len(record.thumbnail) == THUMBNAIL)
        return record
    except NewerFormatError as error:
        raise BeyondFacialError(
            f'The saved identity "{name}" is of a newer version of BeyondFacial; update the extension.'
        ) from error
    except Exception as error:  # damaged bytes cause many kinds of exceptions
        raise BeyondFacialError(
            f'The file of the saved identity "{name}" is damaged or no saved identity; delete it and save it again.'
        ) from error


def record_to_embedding(record: Record) -> str:
    """The record as the setting "embedding" takes it: base64 text."""
    return base64.b64encode(record_to_bytes(record)).decode()


def embedding_to_record(text: str) -> Record:
    """An export, checked in every part; BeyondFacialError where it is none of ours."""
    try:
        return parse_record(base64.b64decode(text, validate=True))
    except NewerFormatError as error:
        raise BeyondFacialError(
            '"embedding" is of a newer version of BeyondFacial; update the extension, or export it with this version.'
        ) from error
    except Exception as error:  # damaged bytes cause many kinds of exceptions
        raise BeyondFacialError('"embedding" is damaged or no exported identity; export it again.') from error


def parse_record(data: bytes) -> Record:
    """A record out of bytes that anybody may have written; any exception where they are none of ours."""
    from safetensors.numpy import load

    size = int.from_bytes(data[:8], "little")
    _require(len(data) <= MAX_EXPORT and size <= MAX_HEADER)
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    _require(metadata["format"] == FORMAT)
    if int(metadata["version"]) > VERSION:
        raise NewerFormatError
    _require(len(metadata["identity"]) < MAX_ABOUT)
    return _checked(load(data), json.loads(metadata["identity"]))


def _checked(tensors: dict[str, np.ndarray], about: dict[str, Any]) -> Record:
    ids = about["spaces"]
    _require(isinstance(ids, list) and 1 <= len(ids) <= MAX_SPACES)
    spaces = tuple(_space(tensors, i, space, about["norms"][i]) for i, space in enumerate(ids))
    count = len(spaces[0].photos)
    _require(1 <= count <= MAX_REFERENCES and all(len(space.photos) == count for space in spaces))
    thumbnail, aligned = tensors.get("thumbnail"), tensors.get("aligned")
    if thumbnail is not None:
        _require(thumbnail.dtype == np.uint8 and thumbnail.shape in ((THUMBNAIL, THUMBNAIL, 3), (HEAD, HEAD, 3)))
    if aligned is not None:
        _require(aligned.dtype == np.uint8 and aligned.shape == (count, ALIGNED, ALIGNED, 3))
    gender = about["gender"]
    _require(gender is None or gender in GENDERS)
    photo_hash, created = about["photo_hash"], about["created"]
    _require(re.fullmatch(HASH, photo_hash) is not None)
    _require(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created) is not None)
    return Record(photo_hash, created, thumbnail, spaces, gender, aligned, _features(tensors))


def _features(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {name: value for name, value in tensors.items() if re.fullmatch(FEATURE, name)}
    _require(len(found) <= MAX_FEATURES)
    for value in found.values():
        _require(value.dtype == np.float32 and 0 < value.size <= MAX_NUMBERS and bool(np.isfinite(value).all()))
    return found


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
