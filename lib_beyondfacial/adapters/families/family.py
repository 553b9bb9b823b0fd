"""What a family of adapters is: the facts that users are told, and its projection."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Tensors = dict[str, Tensor]
FACEID_LICENCE = (
    "The FaceID weights are for non-commercial research only, as are insightface's face packs that they need."
)


@dataclass(frozen=True, eq=False)
class FaceInput:
    """What projections may ask about the person.

    normed: (B, 512) fp32, the aggregated unit embedding (B is 1 for one person).
    norm: length of the raw embedding, for families that take raw ones.
    photos: (N, 512) fp32 unit embeddings of the photos used, best first, for families that take several faces.
    clip: (1, 257, 1280) fp32, CLIP-ViT-H's hidden_states[-2] of the aligned face, for the Plus families.
    """

    normed: Tensor
    norm: float = 1.0
    photos: Tensor | None = None
    clip: Tensor | None = None

    @property
    def raw(self) -> Tensor:
        """(B, 512), the embedding as the recogniser gave it."""
        return self.normed * self.norm


@dataclass(frozen=True)
class Family:
    """One family of adapters.

    key: as in Settings.adapter_family and AdapterSpec.family; name: for users.
    embedding: "normed" or "raw", what its projection takes; pack: the face pack whose embeddings it was trained on.
    needs_clip: looks at the aligned face through CLIP-ViT-H, too; several_faces: takes several photos' embeddings.
    licence, where_from, hint: sentences for users: what may be done, where the file is, which values suit it.
    check(image_proj, name) -> (tokens per face, C), or BeyondFacialError.
    project(image_proj, face, clip_weight) -> (B, T, C), fp32.
    named_like: what files of the family are usually called, where shapes cannot tell; sha256: of published files.
    """

    key: str
    name: str
    embedding: str
    pack: str
    needs_clip: bool
    several_faces: bool
    licence: str
    where_from: str
    hint: str
    check: Callable[[Tensors, str], tuple[int, int]]
    project: Callable[[Tensors, FaceInput, float], Tensor]
    named_like: re.Pattern[str] | None = None
    sha256: tuple[str, ...] = ()
