"""The extension's private package folder: where it is, and how its packages become importable.

install.py fills the folder and loads this file by its path, so that both agree; only the standard library is used
here. The folder is *appended* to sys.path: whatever the host has goes first, and the host's pip never sees it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

EXTENSION = Path(__file__).resolve().parents[2]


def vendor_folder(extension: Path = EXTENSION) -> Path:
    """`<extension>/vendor/<tag>`, one folder per Python version and platform: wheels of another do not load."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return extension / "vendor" / f"cp{sys.version_info.major}{sys.version_info.minor}_{platform}"


def use_vendor(folder: Path | None = None) -> None:
    """Make the private packages importable, after the host's own, and keep them from telling or asking anybody.

    (onnxruntime has telemetry; albumentations, which older insightface imports, looks for newer versions of itself.)
    Call it before the first import of onnxruntime or insightface. Calling it again changes nothing.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    folder = vendor_folder() if folder is None else folder
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))
