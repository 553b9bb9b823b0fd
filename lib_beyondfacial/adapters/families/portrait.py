"""IP-Adapter FaceID-Portrait: sixteen tokens per face, of up to five photos, one after another; no LoRA."""

from __future__ import annotations

from torch import Tensor

from ..features import Features
from ..layouts import check_mlp
from ..networks import project_mlp
from .family import FACEID_LICENCE, Family, Tensors

TOKENS, MAX_FACES = 16, 5


def check(image_proj: Tensors, name: str) -> tuple[int, int]:
    return check_mlp(image_proj, TOKENS, name)


def project(image_proj: Tensors, features: Features, _clip_weight: float) -> Tensor:
    """(1, n * 16, C) of the n best photos."""
    return project_mlp(image_proj, features["arcface_photos"][:MAX_FACES]).flatten(0, 1)[None]


FAMILY = Family(
    key="portrait",
    name="IP-Adapter FaceID-Portrait",
    features=("arcface_photos",),
    pack="buffalo_l",
    licence=FACEID_LICENCE,
    where_from='From "h94/IP-Adapter-FaceID" on Hugging Face: ip-adapter-faceid-portrait-v11_sd15.bin or '
    "ip-adapter-faceid-portrait_sdxl.bin.",
    hint="Published for weight 1 and CFG 7.5; takes the five best photos.",
    check=check,
    project=project,
)
