"""The seams to the real hosts. `detect_host()` imports exactly the one that fits, and only when asked."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from .plan import RunHandle, RunPlan, make_plan

__all__ = ["RunHandle", "RunPlan", "detect_host", "make_plan"]

FORGE_PACKAGE = "modules_forge"  # in every host of the family, in no other; there before any model is


def detect_host() -> ModuleType:
    """The seam of the host that this process is: Forge's for the Forge family, else A1111's.

    One process is one host, so this holds at load time, when there is no `p` to ask yet.
    """
    is_forge = FORGE_PACKAGE in sys.modules or importlib.util.find_spec(FORGE_PACKAGE) is not None
    return importlib.import_module(".forge" if is_forge else ".a1111", __name__)
