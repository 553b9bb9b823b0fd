"""Counts what one request asks of the UNet and of the autoencoder, and how long it is in them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

MEGA = 1e6
PX = 8  # of a picture, a latent px


@dataclass
class Meter:
    """The counts of one request.

    unet_rows: of all UNet calls; latent_px: summed over these rows.
    vae_decodes, vae_encodes: pictures or parts of pictures; vae_megapixels: of all of them.
    model_swaps: how often the UNet is called after the autoencoder: a host with room for one of them loads it anew.
    seconds: of the whole request, by `clock`; inside: of these, in the UNet and the autoencoder. wall_seconds: by the
    wall's clock. On a CPU, `clock` counts the process's seconds (on one thread other work does not count).
    """

    clock: Callable[[], float] = field(default=time.process_time, repr=False)

    unet_rows: int = 0
    latent_px: int = 0
    vae_decodes: int = 0
    vae_encodes: int = 0
    vae_megapixels: float = 0.0
    model_swaps: int = 0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    inside: float = 0.0
    _began: float = 0.0
    _is_vae_last: bool = False

    @property
    def outside_unet(self) -> float:
        """The share of the time that is spent outside UNet and autoencoder."""
        return 1 - self.inside / self.seconds if self.seconds else 0.0

    @contextmanager
    def measuring(self, unet: nn.Module, vae: Any) -> Iterator[None]:
        """Count every call of these networks made inside the context."""
        counters: dict[nn.Module, Callable[[torch.Tensor], None]] = {
            unet: self._count_unet,
            vae.decoder: self._count_decoding,
            vae.encoder: self._count_encoding,
        }
        with ExitStack() as hooks:
            for module, count in counters.items():
                hooks.callback(module.register_forward_pre_hook(self._enter(count)).remove)
                hooks.callback(module.register_forward_hook(self._leave).remove)
            wall, began = time.perf_counter(), self.clock()
            yield
            self.seconds += self.clock() - began
            self.wall_seconds += time.perf_counter() - wall

    def _enter(self, count: Callable[[torch.Tensor], None]) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple) -> None:
            count(args[0])
            self._began = self.clock()

        return hook

    def _leave(self, module: nn.Module, args: tuple, out: object) -> None:
        self.inside += self.clock() - self._began

    def _count_unet(self, x: torch.Tensor) -> None:
        self.model_swaps += self._is_vae_last
        self._is_vae_last = False
        self.unet_rows += len(x)
        self.latent_px += len(x) * x.shape[-2] * x.shape[-1]

    def _count_decoding(self, z: torch.Tensor) -> None:
        self._is_vae_last = True
        self.vae_decodes += len(z)
        self.vae_megapixels += len(z) * z.shape[-2] * z.shape[-1] * PX**2 / MEGA

    def _count_encoding(self, picture: torch.Tensor) -> None:
        self._is_vae_last = True
        self.vae_encodes += len(picture)
        self.vae_megapixels += len(picture) * picture.shape[-2] * picture.shape[-1] / MEGA


def gpu_clock() -> float:
    """Seconds, when the GPU has done all that it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def clock_of(device: torch.device) -> Callable[[], float]:
    return gpu_clock if device.type == "cuda" else time.process_time


def gpu_peak_of(work: Callable[[], Any]) -> float:
    """MB of a GPU's tensors that are allocated at once at most while `work` runs, beyond what was there before."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return (torch.cuda.max_memory_allocated() - before) / MEGA


def peak_of(work: Callable[[], Any]) -> float:
    """The same in a CPU's memory: the sum of what torch's profiler sees allocated and freed."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    results = profiler.profiler.kineto_results  # type: ignore[union-attr]
    now = peak = 0
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak / MEGA
