"""A host for one sampling pass without a web UI: a tiny UNet of random weights, and an autoencoder of block means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.nets.unet import UNetModel
from lib_beyondfacial.method.head_refinement import VarianceExploding
from lib_beyondfacial.sampling.host import Cond
from lib_beyondfacial.unet.injection import Attached
from lib_beyondfacial.unet.rows import LineRows
from lib_beyondfacial.unet.sites import AttentionSite, Site
from tests.random_model import CONTEXT_DIM, UNET

FACTOR = 8  # px per latent px


def make_unet(seed: int = 0) -> UNetModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNetModel(**UNET).eval()


@dataclass(frozen=True)
class Encoded:
    """A cond: what was asked to be encoded."""

    texts: tuple[str, ...]
    size: tuple[int, int]
    is_negative: bool = False


@dataclass(frozen=True)
class ModelCall:
    """One predict_x0; injected: whether the identity was attached meanwhile."""

    rows: int
    sigma: float
    cond: Cond
    is_crop: bool
    injected: bool


class CountingInjection:
    """An Injection that adds nothing and knows when it is attached."""

    def __init__(self, fires: bool = True):
        self.fires, self.is_attached, self.attachments = fires, False, []
        self.device_bytes = 0

    def check_fits(self, sites: Sequence[Site]) -> None: ...

    @contextmanager
    def attached(self, sites: Sequence[AttentionSite], where: LineRows, weight: float) -> Iterator[Attached]:
        self.is_attached = True
        self.attachments.append((where, weight))
        try:
            yield Attached(fired=int(self.fires))
        finally:
            self.is_attached = False


@dataclass
class HostDouble:
    """sampling.host.Host. x0: what every model call predicts for (x, sigma); calls: what was asked of the model.

    lost: what the autoencoder takes off every latent.

    order: the names of what was asked of the host, as it came.
    """

    picture_size: tuple[int, int] = (64, 96)
    native_side: int = 64
    x0: Callable[[Tensor, float], Tensor] = lambda x, sigma: torch.zeros_like(x)
    injection: CountingInjection = field(default_factory=CountingInjection)
    key: object = "first model"
    crops: bool = True
    joins: bool = True
    lost: float = 0.0
    interrupted: bool = False
    calls: list[ModelCall] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.law = VarianceExploding()
        self.model = make_unet()

    def unet(self) -> nn.Module:
        return self.model

    def model_key(self) -> object:
        return self.key

    def encode_prompts(self, texts: Sequence[str], size: tuple[int, int], is_negative: bool = False) -> Cond:
        self.encoded.append(Encoded(tuple(texts), size, is_negative))
        return self.encoded[-1]

    def select_rows(self, cond: Cond, rows: Sequence[int]) -> Cond:
        return replace(cond, texts=tuple(cond.texts[row] for row in rows))

    def join_conds(self, cond: Cond, uncond: Cond) -> Cond | None:
        return Encoded(cond.texts + uncond.texts, cond.size) if self.joins else None

    def encode_words(self, words: Sequence[str]) -> Tensor:
        seeds = [torch.Generator().manual_seed(sum(map(ord, word))) for word in words]
        return torch.stack([torch.randn(CONTEXT_DIM, generator=seed) for seed in seeds])

    def prompts_at_end(self, texts: Sequence[str]) -> list[str]:
        return [text.replace("[morning:evening:0.5]", "evening") for text in texts]

    def first_conds(self) -> Cond:
        return "first conds"

    def encode_images(self, pictures: Tensor) -> Tensor:
        self.order.append("encode")
        z = F.avg_pool2d(pictures, FACTOR)
        return torch.cat([z, z.mean(1, keepdim=True)], 1) - self.lost

    def decode_latents(self, latents: Tensor) -> Tensor:
        self.order.append("decode")
        return F.interpolate(latents[:, :3], scale_factor=FACTOR, mode="nearest")

    def start_to_x(self, start: Tensor, sigma: float) -> Tensor:
        return start

    def predict_x0(self, x: Tensor, sigma: float, cond: Cond, is_crop: bool = False) -> Tensor:
        self.order.append("predict")
        self.calls.append(ModelCall(len(x), sigma, cond, is_crop, self.injection.is_attached))
        text = torch.randn(len(x), 7, CONTEXT_DIM, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            self.model(x / x.std(), torch.full((len(x),), 500.0), text)
        return self.x0(x, sigma)

    def can_crop(self) -> bool:
        return self.crops

    def load_unet(self) -> None:
        self.order.append("load_unet")

    def is_interrupted(self) -> bool:
        return self.interrupted

    def show_progress(self, text: str, done: float = 0.0) -> None:
        self.progress.append(text)
