"""What a sampling pass asks of the host that it runs in, and what it is told at each level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ..method.schedule import NoiseLaw
from .plan import IdentityLine

Cond = object  # an encoded prompt, in the host's own form; only the host looks into it


@dataclass(frozen=True)
class BatchImage:
    """One picture of the batch, as the host was asked for it."""

    prompt: str
    negative_prompt: str
    seed: int


@dataclass(frozen=True)
class Step:
    """One noise level, as the host's CFG sees it.

    cfg_scale: the scale that the user set.
    guidance: by how much `denoised` changes with delta: the CFG scale, or 1 where the host computes no uncond row.
    denoised: (B, C, H, W), the semantic line's x0 behind CFG; where CFG is not linear, what linear CFG would give.
    """

    sigma: float
    cfg_scale: float
    guidance: float
    denoised: Tensor


class Host(Protocol):
    """One sampling pass of a host. Latents are x0 + sigma noise; pictures are (3, H, W) in [-1, 1]."""

    native_side: int  # px that the model draws best
    picture_size: tuple[int, int]  # (height, width) in px
    law: NoiseLaw

    def unet(self) -> nn.Module: ...

    def model_key(self) -> object:
        """Equal as long as the same weights sample."""
        ...

    def encode_prompts(self, texts: Sequence[str], size: tuple[int, int]) -> Cond:
        """The text encoder's output at the run's CLIP skip, one row a text; size: (height, width) of what is drawn."""
        ...

    def encode_words(self, words: Sequence[str]) -> Tensor:
        """(n, context_dim): each word encoded by itself, the token after the start token."""
        ...

    def prompts_at_end(self, texts: Sequence[str]) -> list[str]:
        """Each text as the host's prompt editing ends it."""
        ...

    def first_conds(self) -> Cond:
        """Each picture's first AND part at the pass's first step."""
        ...

    def encode_image(self, picture: Tensor) -> Tensor:
        """The scaled latent mean of a picture: (C, h, w) fp32. Nothing is sampled."""
        ...

    def decode_latents(self, latents: Tensor) -> Tensor:
        """The picture, in about [-1, 1], of scaled latents (1, C, h, w)."""
        ...

    def start_to_x(self, start: Tensor, sigma: float) -> Tensor:
        """The sampler's own start as x0 + sigma noise; some samplers keep it at unit variance."""
        ...

    def predict_x0(
        self, x: Tensor, sigma: float, cond: Cond, line: IdentityLine | None, is_crop: bool = False
    ) -> Tensor:
        """x0 before CFG, fp32, one row a picture, by a call of our own; `line`'s units act, others' do not.

        is_crop: x is not the picture; what others have set over the UNet for the whole picture is off.
        """
        ...

    def can_crop(self) -> bool:
        """Whether a part of the picture can be denoised by itself (not by an inpainting model)."""
        ...

    def load_unet(self) -> None:
        """Bring the UNet back where the autoencoder has taken its place."""
        ...

    def is_interrupted(self) -> bool: ...
