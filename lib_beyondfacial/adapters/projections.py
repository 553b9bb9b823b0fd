"""From a person's features to identity tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BeyondFacialError
from .checkpoints import AdapterSpec
from .families import FAMILIES
from .features import Features
from .files import Weights


def project_identity(spec: AdapterSpec, weights: Weights, features: Features, clip_weight: float = 1.0) -> Tensor:
    """Identity tokens (B, T, C), fp32, by the projection of the adapter's family.

    Args:
        features: those named in spec.features, from features.compute_features.
        clip_weight: weight of CLIP's part in FaceID-Plus v2; other families ignore it.

    T is spec.tokens, times the number of faces for a family that takes several. Raises BeyondFacialError if the tokens
    are not finite.
    """
    with torch.no_grad():
        tokens = FAMILIES[spec.family].project(weights.image_proj, features, clip_weight)
    if not bool(torch.isfinite(tokens).all()):
        raise BeyondFacialError(
            "The adapter gives numbers that are not finite; its file is damaged, download it again."
        )
    return tokens
