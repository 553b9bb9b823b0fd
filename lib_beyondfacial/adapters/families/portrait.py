"""IP-Adapter FaceID-Portrait: sixteen tokens per face, of up to five photos, one after another; no LoRA."""

from __future__ import annotations

from torch import Tensor

from ..layouts import check_mlp
from ..networks import project_mlp
from .family import FACEID_LICENCE, FaceInput, Family, Tensors

TOKENS, MAX_FACES = 16, 5


def check(image_proj: Tensors, name: str) -> tuple[int, int]:
    return check_mlp(image_proj, TOKENS, name)


def project(image_proj: Tensors, face: FaceInput, _clip_weight: float) -> Tensor:
    """(1, n * 16, C) of the n best photos; without photos the aggregate alone, (B, 16, C)."""
    if face.photos is None or not len(face.photos):
        return project_mlp(image_proj, face.normed)
    return project_mlp(image_proj, face.photos[:MAX_FACES]).flatten(0, 1)[None]


FAMILY = Family(
    key="portrait",
    name="IP-Adapter FaceID-Portrait",
    embedding="normed",
    pack="buffalo_l",
    needs_clip=False,
    several_faces=True,
    licence=FACEID_LICENCE,
    where_from='From "h94/IP-Adapter-FaceID" on Hugging Face: ip-adapter-faceid-portrait-v11_sd15.bin or '
    "ip-adapter-faceid-portrait_sdxl.bin.",
    hint="Published for weight 1 and CFG 7.5; looks at the five best photos.",
    check=check,
    project=project,
)
