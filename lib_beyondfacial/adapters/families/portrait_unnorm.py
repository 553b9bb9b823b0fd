"""IP-Adapter FaceID-Portrait-unnorm (SDXL): InstantID's resampler on buffalo_l's raw embedding; no LoRA."""

from __future__ import annotations

import re

from .family import FACEID_LICENCE, Family
from .instantid import check, project

FAMILY = Family(
    key="portrait_unnorm",
    name="IP-Adapter FaceID-Portrait-unnorm",
    features=("arcface_raw",),
    pack="buffalo_l",
    licence=FACEID_LICENCE,
    where_from='From "h94/IP-Adapter-FaceID" on Hugging Face: ip-adapter-faceid-portrait_sdxl_unnorm.bin.',
    hint="Published for weight 1 and CFG 3 to 4.",
    check=check,
    project=project,
    named_like=re.compile(r"unnorm", re.IGNORECASE),
    sha256=("220bb86e205393a3d0411631cb473caddbf35fd371be2905ca9008818170db55",),
)
