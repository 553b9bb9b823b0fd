"""The functions of a host that a sampling pass needs, and the data that the host gives it at each noise level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ..method.schedule import NoiseLaw

Cond = object  # an encoded prompt in the host's own type; only the host reads it


@dataclass(frozen=True)
class BatchImage:
    """One picture of the batch: the host's prompts and seed for it."""

    prompt: str
    negative_prompt: str
    seed: int


@dataclass(frozen=True)
class Step:
    """One noise level.

    cfg_scale: the scale that the user set.
    guidance: by how much `denoised` changes with delta: the CFG scale, or 1 where the host computes no uncond row.
    denoised: (B, C, H, W), the semantic line's x0 behind CFG; where CFG is not linear, what linear CFG would give.
    rows: of the host's own call, for each picture.
    """

    sigma: float
    cfg_scale: float
    guidance: float
    denoised: Tensor
    rows: int = 2


class Host(Protocol):
    """One sampling pass of a host. Latents are x0 + sigma noise; pictures are (3, H, W) in [-1, 1]."""

    native_side: int  # px, the picture size that the model was trained on
    picture_size: tuple[int, int]  # (height, width) in px
    law: NoiseLaw

    def unet(self) -> nn.Module: ...

    def model_key(self) -> object:
        """A key that is equal as long as the same weights are loaded."""
        ...

    def encode_prompts(self, texts: Sequence[str], size: tuple[int, int], is_negative: bool = False) -> Cond:
        """The text encoder's output at the request's CLIP skip, a row a text.

        size: the picture's (height, width). is_negative: these are negative prompts.
        """
        ...

    def select_rows(self, cond: Cond, rows: Sequence[int]) -> Cond:
        """Some rows of encoded prompts."""
        ...

    def join_conds(self, cond: Cond, uncond: Cond) -> Cond | None:
        """The rows of both, for one call; None where the host computes them in two."""
        ...

    def encode_words(self, words: Sequence[str]) -> Tensor:
        """Encode each word by itself: (n, context_dim), the token after the start token."""
        ...

    def prompts_at_end(self, texts: Sequence[str]) -> list[str]:
        """Each text as the host's prompt editing leaves it at the last step."""
        ...

    def first_conds(self) -> Cond:
        """Each picture's first AND part at the pass's first step."""
        ...

    def encode_images(self, pictures: Tensor) -> Tensor:
        """The scaled means of the pictures' latent distributions: (N, 3, H, W) -> (N, C, h, w) fp32.

        No random numbers are drawn.
        """
        ...

    def decode_latents(self, latents: Tensor) -> Tensor:
        """The pictures (N, 3, H, W), in about [-1, 1], of scaled latents (N, C, h, w)."""
        ...

    def start_to_x(self, start: Tensor, sigma: float) -> Tensor:
        """Convert the sampler's start to x0 + sigma noise (some samplers keep it at unit variance)."""
        ...

    def predict_x0(self, x: Tensor, sigma: float, cond: Cond, is_crop: bool = False) -> Tensor:
        """Call the model: x0 before CFG, fp32, one row per picture.

        is_crop: x is a crop of the picture, so no ControlNet acts on it; on A1111 no patch of other extensions either.
        """
        ...

    def can_crop(self) -> bool:
        """Whether the model can denoise a crop alone; an inpainting model cannot."""
        ...

    def load_unet(self) -> None:
        """Load the UNet again if the autoencoder has replaced it in memory."""
        ...

    def is_interrupted(self) -> bool: ...

    def show_progress(self, text: str, done: float = 0.0) -> None:
        """Show the text beside the host's progress bar ("": nothing any more), and how much of the refinement is done.

        Args:
            done: in [0, 1); the bar moves by so much of a step, so that no time left is
                reckoned from a bar that rests.
        """
        ...
