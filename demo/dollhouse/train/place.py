"""Where a chain of runs works and at what scale: the size of the pictures, the folders, the device, the amounts.

`--size` is the one number for the world's scale; everything that depends on it asks the `Place`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from demo.dollhouse.world import SIZE, head_radius
from lib_beyondfacial.common import hash_file

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "weights"
SIZES = (128, 192, 256)


@dataclass(frozen=True)
class Amounts:
    """How much of the world is drawn."""

    pictures: int = 20000
    wide: int = 4000  # of each wide shape
    decoded: int = 1600  # of the pictures that also go through the autoencoder, for the seeing models
    families: int = 1500  # pairs of persons a recogniser learns from
    corpus: int = 6000  # the adapter's pictures
    held_out: int = 1500
    people: int = 160  # unseen persons the face packs are measured on
    captions: int = 6  # wordings kept of every picture
    generated: int = 96  # pictures that the measuring stage makes
    empty_scenes: int = 240  # with nobody in them, for the detector


# A GPU sees every picture many times in minutes, so it gets more of them; a CPU would wait for their drawing.
AMOUNTS = {
    "cpu": Amounts(),
    "cuda": Amounts(pictures=32000, wide=8000, decoded=6000, families=2000, corpus=16000, generated=480),
}


@dataclass(frozen=True)
class Place:
    """A size, a folder for the weights, one for everything in between, a device, and how many processes draw."""

    size: int
    out: Path
    cache: Path
    device: torch.device
    workers: int = 1
    amounts: Amounts = Amounts()
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.size % 32 or self.size < 64:
            raise SystemExit(
                f"--size {self.size}: give a multiple of 32 that is at least 64, such as 128, 192 or 256."
            )
        for folder in (self.out, self.cache):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def latent(self) -> int:
        return self.size // 8

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def loaders(self) -> int:
        """Processes that make batches beside the training; on a CPU the training itself wants the cores."""
        return self.workers if self.on_gpu else 0

    @property
    def full_radius(self) -> float:
        return head_radius("full", self.size) * self.size

    @property
    def checkpoint(self) -> Path:
        return self.out / "models" / "Stable-diffusion" / "dollhouse.safetensors"

    @property
    def clip(self) -> Path:
        return self.out / "clip"

    @property
    def adapter(self) -> Path:
        return self.out / "models" / "ipadapter" / "dollhouse-faceid.safetensors"

    @property
    def evaluator(self) -> Path:
        return self.out / "evaluator.safetensors"

    @property
    def vae(self) -> Path:
        """The autoencoder as it is now: with its decoder sharpened, if that has been done."""
        sharp = self.cache / "vae_sharp.safetensors"
        return sharp if sharp.exists() else self.cache / "vae.safetensors"

    @property
    def vae_hash(self) -> str:
        return hash_file(self.vae)[:8]

    def pack(self, which: str) -> Path:
        """The face pack that feeds the adapter, or the judge's, which hosts must not list."""
        if which == "judge":
            return self.out / "judge" / "dollhouse_judge"
        return self.out / "models" / "insightface" / "models" / "dollhouse"

    def put(self, model: nn.Module) -> nn.Module:
        """The model on the device; on a GPU in the layout that its convolutions are fast in."""
        return model.to(self.device, memory_format=torch.channels_last) if self.on_gpu else model.to(self.device)

    def autocast(self) -> contextlib.AbstractContextManager:
        """bf16 on a GPU, and on a CPU where it is asked for; else fp32. A CPU's fused attention is slow backwards: a
        UNet's step of 16 took .57 s with it and .45 s in plain operations."""
        if not (self.on_gpu or self.bf16):
            return contextlib.nullcontext()
        stack = contextlib.ExitStack()
        stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
        if not self.on_gpu:
            from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415  torch >= 2.3

            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        return stack

    def card(self) -> dict[str, dict]:
        path = self.out / "card.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write_card(self, name: str, figures: dict[str, object]) -> None:
        """Add a model's measured figures to the card that is shipped beside the weights."""
        card = self.card() | {name: {"size": self.size, **figures}}
        text = json.dumps(dict(sorted(card.items())), indent=1) + "\n"
        (self.out / "card.json").write_text(text, encoding="utf-8")
        print(name, json.dumps(figures), flush=True)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_place_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=SIZE, help="px of a picture's side: 128, 192 or 256")
    parser.add_argument("--out", type=Path, help="folder of the weights (default: cache/SIZE/weights beside this)")
    parser.add_argument("--cache", type=Path, help="folder of data and checkpoints (default: cache/SIZE)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--workers", type=int, default=cores(), help="processes that draw (default: all cores)")
    parser.add_argument("--bf16", action="store_true", help="compute in bf16 on a CPU, too: faster where it has it")
    for name in ("pictures", "wide", "corpus", "families", "decoded"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)


def place_of(args: argparse.Namespace) -> Place:
    """The place that the options name. The shipped weights are only ever written when `--out` names their folder."""
    torch.set_flush_denormal(True)
    kind = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    given = {
        k: v for k in ("pictures", "wide", "corpus", "families", "decoded") if (v := getattr(args, k)) is not None
    }
    amounts = Amounts(**(vars(AMOUNTS[kind]) | given))
    cache = args.cache or ROOT / "cache" / str(args.size)
    return Place(args.size, args.out or cache / "weights", cache, torch.device(kind), args.workers, amounts, args.bf16)
