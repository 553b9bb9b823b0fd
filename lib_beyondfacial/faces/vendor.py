"""The extension's private package folder: its path, and making its packages importable.

install.py fills the folder and loads this file by its path, so it may import only the standard library. The folder is
*appended* to sys.path: the host's packages come first, and the host's pip does not see it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

EXTENSION = Path(__file__).resolve().parents[2]


def vendor_folder(extension: Path = EXTENSION) -> Path:
    """`<extension>/vendor/<tag>`, one for each Python version and platform, because wheels are specific to these."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return extension / "vendor" / f"cp{sys.version_info.major}{sys.version_info.minor}_{platform}"


def use_vendor(folder: Path | None = None) -> None:
    """Make the private packages importable, after the host's, and switch off their telemetry and update checks.

    (onnxruntime has telemetry; albumentations, which older insightface imports, checks for new versions.) Call it
    before the first import of onnxruntime or insightface; calling it again changes nothing.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    folder = vendor_folder() if folder is None else folder
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))
