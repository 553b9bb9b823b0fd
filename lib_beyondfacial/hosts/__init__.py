"""The seams to the real hosts. `detect_host()` imports exactly the one that fits, and only when asked."""

from __future__ import annotations

import importlib
from types import ModuleType

from .plan import RunHandle, RunPlan, make_plan

__all__ = ["RunHandle", "RunPlan", "detect_host", "make_plan"]


def detect_host() -> ModuleType:
    """The seam of the host that this process is: A1111's for every host with A1111's denoiser callbacks."""
    return importlib.import_module(".a1111", __name__)
