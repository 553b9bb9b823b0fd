"""IP-Adapter FaceID: four tokens from one unit embedding; published with a LoRA, for SD1.5 and SDXL."""

from __future__ import annotations

from torch import Tensor

from ..features import Features
from ..layouts import check_mlp
from ..networks import project_mlp
from .family import FACEID_LICENCE, Family, Tensors

TOKENS = 4


def check(image_proj: Tensors, name: str) -> tuple[int, int]:
    return check_mlp(image_proj, TOKENS, name)


def project(image_proj: Tensors, features: Features, _clip_weight: float) -> Tensor:
    return project_mlp(image_proj, features["arcface"])


FAMILY = Family(
    key="faceid",
    name="IP-Adapter FaceID",
    features=("arcface",),
    pack="buffalo_l",
    licence=FACEID_LICENCE,
    where_from='From "h94/IP-Adapter-FaceID" on Hugging Face: ip-adapter-faceid_sd15.bin or '
    "ip-adapter-faceid_sdxl.bin.",
    hint="Published for weight 1 and CFG 7.5.",
    check=check,
    project=project,
)
