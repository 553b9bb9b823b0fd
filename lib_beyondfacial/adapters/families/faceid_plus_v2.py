"""IP-Adapter FaceID-Plus v2 (SD1.5, SDXL): as Plus, but CLIP's part is added to FaceID's tokens, by a weight."""

from __future__ import annotations

import re

from torch import Tensor

from ..features import Features
from .faceid_plus import check, resample_clip
from .family import FACEID_LICENCE, Family, Tensors


def project(image_proj: Tensors, features: Features, clip_weight: float) -> Tensor:
    """tokens + clip_weight * resampled; the weight is the original's s_scale."""
    tokens, resampled = resample_clip(image_proj, features)
    return tokens + clip_weight * resampled


FAMILY = Family(
    key="faceid_plus_v2",
    name="IP-Adapter FaceID-Plus v2",
    features=("arcface", "clip"),
    pack="buffalo_l",
    licence=FACEID_LICENCE,
    where_from='From "h94/IP-Adapter-FaceID" on Hugging Face: ip-adapter-faceid-plusv2_sd15.bin or '
    "ip-adapter-faceid-plusv2_sdxl.bin; it needs CLIP-ViT-H.",
    hint="Published for weight 1, CLIP weight 1 and CFG 7.5.",
    check=check,
    project=project,
    named_like=re.compile(r"plus[-_ ]?v2", re.IGNORECASE),
    sha256=("26d0d86a1d60d6cc811d3b8862178b461e1eeb651e6fe2b72ba17aa95411e313",),
)
