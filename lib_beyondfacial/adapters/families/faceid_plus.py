"""IP-Adapter FaceID-Plus (SD1.5): FaceID's tokens attend to CLIP-ViT-H's of the aligned face; with a LoRA."""

from __future__ import annotations

import re

from torch import Tensor

from ..features import Features
from ..layouts import check_perceiver
from ..networks import project_mlp, resample
from .family import FACEID_LICENCE, Family, Tensors

TOKENS = 4


def check(image_proj: Tensors, name: str) -> tuple[int, int]:
    return check_perceiver(image_proj, TOKENS, name)


def project(image_proj: Tensors, features: Features, _clip_weight: float) -> Tensor:
    """The resampler's output alone: version 1 has no weight for CLIP's part."""
    return resample_clip(image_proj, features)[1]


def resample_clip(image_proj: Tensors, features: Features) -> tuple[Tensor, Tensor]:
    """FaceID's tokens, and the resampler's output for them and CLIP's tokens: (B, 4, C) each."""
    tokens = project_mlp(image_proj, features["arcface"])
    clip = features["clip"].to(tokens.device, tokens.dtype).expand(len(tokens), -1, -1)
    return tokens, resample(image_proj, "perceiver_resampler.", tokens, clip)


FAMILY = Family(
    key="faceid_plus",
    name="IP-Adapter FaceID-Plus",
    features=("arcface", "clip"),
    pack="buffalo_l",
    licence=FACEID_LICENCE,
    where_from='From "h94/IP-Adapter-FaceID" on Hugging Face: ip-adapter-faceid-plus_sd15.bin; it needs CLIP-ViT-H.',
    hint="Published for weight 1 and CFG 7.5.",
    check=check,
    project=project,
    named_like=re.compile(r"plus(?![-_ ]?v2)", re.IGNORECASE),
    sha256=("252fb53e0d018489d9e7f9b9e2001a52ff700e491894011ada7cfb471e0fadf2",),
)
