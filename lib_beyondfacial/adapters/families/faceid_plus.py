"""IP-Adapter FaceID-Plus (SD1.5): FaceID's tokens look at CLIP-ViT-H's features of the aligned face; with a LoRA."""

from __future__ import annotations

import re

from torch import Tensor

from ...errors import BeyondFacialError
from ..layouts import check_perceiver
from ..networks import project_mlp, resample
from .family import FACEID_LICENCE, FaceInput, Family, Tensors

TOKENS = 4


def check(image_proj: Tensors, name: str) -> tuple[int, int]:
    return check_perceiver(image_proj, TOKENS, name)


def project(image_proj: Tensors, face: FaceInput, _clip_weight: float) -> Tensor:
    """What the tokens saw, without the tokens themselves: version 1 has no way past CLIP, hence no weight of it."""
    return look_at_clip(image_proj, face)[1]


def look_at_clip(image_proj: Tensors, face: FaceInput) -> tuple[Tensor, Tensor]:
    """FaceID's tokens, and the same after they looked at CLIP's: (B, 4, C) each."""
    if face.clip is None:
        raise BeyondFacialError(
            'FaceID-Plus needs a CLIP vision model; put "CLIP-ViT-H-14.safetensors" into the folder '
            "models/clip_vision, or choose a FaceID file without Plus."
        )
    tokens = project_mlp(image_proj, face.normed)
    clip = face.clip.to(tokens.device, tokens.dtype).expand(len(tokens), -1, -1)
    return tokens, resample(image_proj, "perceiver_resampler.", tokens, clip)


FAMILY = Family(
    key="faceid_plus",
    name="IP-Adapter FaceID-Plus",
    embedding="normed",
    pack="buffalo_l",
    needs_clip=True,
    several_faces=False,
    licence=FACEID_LICENCE,
    where_from='From "h94/IP-Adapter-FaceID" on Hugging Face: ip-adapter-faceid-plus_sd15.bin; it needs CLIP-ViT-H.',
    hint="Published for weight 1 and CFG 7.5.",
    check=check,
    project=project,
    named_like=re.compile(r"plus(?![-_ ]?v2)", re.IGNORECASE),
    sha256=("252fb53e0d018489d9e7f9b9e2001a52ff700e491894011ada7cfb471e0fadf2",),
)
