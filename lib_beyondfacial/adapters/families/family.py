"""What a family of adapters is: the facts that users are told, and its projection."""

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
    features: what its projection asks about the person, keys of features.FEATURES.
    pack: the face pack whose embeddings it was trained on.
    licence, where_from, hint: sentences for users: what may be done, where the file is, which values suit it.
    check(image_proj, name) -> (tokens per face, C), or BeyondFacialError.
    project(image_proj, features, clip_weight) -> (B, T, C), fp32.
    named_like: what files of the family are usually called, where shapes cannot tell; sha256: of published files.
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
