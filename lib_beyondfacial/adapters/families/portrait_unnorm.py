"""IP-Adapter FaceID-Portrait-unnorm (SDXL): InstantID's resampler on buffalo_l's raw embedding; no LoRA."""

from __future__ import annotations

import re

from torch import Tensor

from ..layouts import EMBEDDING_SIZE, check_resampler
from ..networks import project_resampler
from .family import FACEID_LICENCE, FaceInput, Family, Tensors


def check(image_proj: Tensors, name: str) -> tuple[int, int]:
    return check_resampler(image_proj, EMBEDDING_SIZE, name)


def project(image_proj: Tensors, face: FaceInput, _clip_weight: float) -> Tensor:
    return project_resampler(image_proj, face.raw)


FAMILY = Family(
    key="portrait_unnorm",
    name="IP-Adapter FaceID-Portrait-unnorm",
    embedding="raw",
    pack="buffalo_l",
    needs_clip=False,
    several_faces=False,
    licence=FACEID_LICENCE,
    where_from='From "h94/IP-Adapter-FaceID" on Hugging Face: ip-adapter-faceid-portrait_sdxl_unnorm.bin.',
    hint="Published for weight 1 and CFG 3 to 4.",
    check=check,
    project=project,
    named_like=re.compile(r"unnorm", re.IGNORECASE),
    sha256=("220bb86e205393a3d0411631cb473caddbf35fd371be2905ca9008818170db55",),
)
