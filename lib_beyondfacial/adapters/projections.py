"""From a person's face embeddings to identity tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .checkpoints import AdapterSpec, Weights


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


def project_faceid(image_proj: dict[str, Tensor], embedding: Tensor) -> Tensor:
    """IP-Adapter FaceID's projection: Linear 512 -> m, exact GELU, Linear -> T * C, reshape, LayerNorm over C.

    Args:
        image_proj: the file's section `image_proj`: proj.0, proj.2, norm, each with weight and bias.
        embedding: (B, 512), the recogniser's unit embedding.

    Returns (B, T, C) in fp32 on the embedding's device.
    """
    w = {key: value.to(embedding.device, torch.float32) for key, value in image_proj.items()}
    hidden = F.gelu(F.linear(embedding.float(), w["proj.0.weight"], w["proj.0.bias"]))
    tokens = F.linear(hidden, w["proj.2.weight"], w["proj.2.bias"])
    width = w["norm.weight"].shape[0]
    return F.layer_norm(tokens.reshape(len(tokens), -1, width), (width,), w["norm.weight"], w["norm.bias"])


PROJECTIONS = {"faceid": project_faceid}


def project_identity(spec: AdapterSpec, weights: Weights, face: FaceInput) -> Tensor:
    """Identity tokens (B, T, C), fp32, by the projection of the adapter's family."""
    with torch.no_grad():
        return PROJECTIONS[spec.family](weights.image_proj, face.normed)
