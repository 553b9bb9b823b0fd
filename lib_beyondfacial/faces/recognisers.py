"""Recognises the published recogniser in a face pack, because embeddings of different ones cannot be compared.

Known files count more than the pack's name, since users rename folders and unpack packs into each other.
"""

from __future__ import annotations

from pathlib import Path

R50, R100, MOBILE = "ResNet50@WebFace600K", "ResNet100@Glint360K", "MobileFaceNet@WebFace600K"
BY_SIZE = {174_383_860: R50, 260_665_334: R100, 13_616_099: MOBILE}  # bytes of insightface's published files
BY_FILE = {"w600k_r50.onnx": R50, "glintr100.onnx": R100, "w600k_mbf.onnx": MOBILE}
BY_PACK = {"buffalo_l": R50, "buffalo_m": R50, "buffalo_s": MOBILE, "buffalo_sc": MOBILE, "antelopev2": R100}


def recogniser_of(name: str, folder: Path | None = None) -> str | None:
    """The published recogniser in a pack: by the size or the name of a file in its folder, else by the pack's name.

    None if unknown.
    """
    try:
        files = [] if folder is None else [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".onnx"]
        by_size = [BY_SIZE[size] for path in files if (size := path.stat().st_size) in BY_SIZE]
    except OSError:
        files, by_size = [], []
    by_file = [BY_FILE[path.name.lower()] for path in files if path.name.lower() in BY_FILE]
    return next(iter((*by_size, *by_file)), BY_PACK.get(name))
