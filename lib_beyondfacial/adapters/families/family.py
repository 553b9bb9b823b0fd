"""A family of adapters: facts for users, and its projection."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..features import Features

Tensors = dict[str, Tensor]
FACEID_LICENCE = (
    "The FaceID weights are for non-commercial research only, as are insightface's face packs that they need."
)


@dataclass(frozen=True)
class Family:
    """One family of adapters.

    key: as in Settings.adapter_family and AdapterSpec.family; name: for users.
    features: the features of the person that its projection needs, keys of features.FEATURES.
    pack: the face pack whose embeddings it was trained on.
    licence, where_from, hint: sentences for users: permitted use, source of the file, recommended values.
    check(image_proj, name) -> (tokens per face, C), or BeyondFacialError.
    project(image_proj, features, clip_weight) -> (B, T, C), fp32.
    named_like: pattern of usual file names, for shapes that fit two families; sha256: hashes of published files.
    """

    key: str
    name: str
    features: tuple[str, ...]
    pack: str
    licence: str
    where_from: str
    hint: str
    check: Callable[[Tensors, str], tuple[int, int]]
    project: Callable[[Tensors, Features, float], Tensor]
    named_like: re.Pattern[str] | None = None
    sha256: tuple[str, ...] = ()
