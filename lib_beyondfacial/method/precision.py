"""Where a host's device or autocast would compute the method's fp32 otherwise."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

APPLE = "mps"


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A scope in which fp32 stays fp32; under A1111's autocast products and convolutions are in half precision."""
    return torch.autocast(device.type, enabled=False) if device.type in ("cuda", "cpu") else nullcontext()


def resampling_device(device: torch.device) -> torch.device:
    """Where pictures are resampled: on the CPU for Apple's GPUs, which refuse replicated borders before torch 2.13."""
    return torch.device("cpu") if device.type == APPLE else device
