"""InstantID's ip-adapter (SDXL): sixteen latents attend to antelopev2's raw embedding. Its IdentityNet is not used."""

from __future__ import annotations

import re

from torch import Tensor

from ...common import EMBEDDING_SIZE
from ..features import Features
from ..layouts import check_resampler
from ..networks import project_resampler
from .family import Family, Tensors


def check(image_proj: Tensors, name: str) -> tuple[int, int]:
    return check_resampler(image_proj, EMBEDDING_SIZE, name)


def project(image_proj: Tensors, features: Features, _clip_weight: float) -> Tensor:
    return project_resampler(image_proj, features["arcface_raw"])


FAMILY = Family(
    key="instantid",
    name="InstantID",
    features=("arcface_raw",),
    pack="antelopev2",
    licence="The InstantID weights are for research only by their README, and the face pack antelopev2 that they need "
    "is for non-commercial research.",
    where_from='From "InstantX/InstantID" on Hugging Face: ip-adapter.bin; it needs the face pack antelopev2.',
    hint="Published for weight 0.8 and CFG 5.",
    check=check,
    project=project,
    named_like=re.compile(r"instant[-_ ]?id", re.IGNORECASE),
)
