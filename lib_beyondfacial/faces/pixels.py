"""Converts an opened picture to upright sRGB pixels of limited size, with at most two copies in memory."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms

GREY = 127  # background of transparent pictures
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}  # colour spaces of ICC profiles -> the mode that they fit
VISIBLE = 2  # levels (of 255): a profile that changes no colour by more is treated as sRGB
ROWS = 256  # read at a time from pictures of deep grey


def to_pixels(image: Image.Image, orientation: int, profile: bytes, pixels: int) -> np.ndarray:
    """RGB uint8 (H, W, 3), upright, in sRGB, shrunk to at most so many pixels.

    Args:
        orientation: EXIF's, 1 to 8; anything else leaves the picture as it is.
        profile: the picture's ICC profile, b"" for none; one that is damaged or of another colour space is ignored.
    """
    image = _shrink(_to_8_bit(image), pixels)
    colours = _to_srgb(image, profile)
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    if alpha is not None:
        ground = Image.new("RGB", image.size, (GREY,) * 3)
        ground.paste(colours, mask=alpha)
        colours = ground
    if orientation in UPRIGHT:
        colours = colours.transpose(UPRIGHT[orientation])
    found = np.array(colours, dtype=np.uint8)
    found.flags.writeable = False
    return found


def exif_orientation(image: Image.Image) -> int:
    """EXIF's orientation of a picture in memory; 1 where it is absent or damaged (the picture may still be fine)."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:
        return 1


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Convert to one of the modes RGB, RGBA, L, LA, CMYK."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _deep_grey_to_8_bit(image)
    if image.mode in ("RGB", "L", "CMYK") and image.info.get("transparency") is None:
        return image
    if image.mode in ("RGBA", "LA"):
        return image
    if image.mode == "La":
        return image.convert("LA")
    has_alpha = "A" in image.mode or "a" in image.mode or image.info.get("transparency") is not None
    if image.mode == "1":
        image = image.convert("L")
    return image.convert("RGBA" if has_alpha and image.mode != "LAB" else "RGB")


def _shrink(image: Image.Image, pixels: int) -> Image.Image:
    width, height = image.size
    if width * height <= pixels:
        return image
    ratio = math.sqrt(pixels / (width * height))
    size = max(int(width * ratio), 1), max(int(height * ratio), 1)
    return image.resize(size, Image.Resampling.BOX)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The colours alone, as RGB."""
    plain = image.convert("L" if image.mode == "LA" else "RGB") if image.mode in ("LA", "RGBA") else image
    if SPACES.get(profile[16:20]) != plain.mode:
        return plain.convert("RGB")
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        change = ImageCms.buildTransform(embedded, ImageCms.createProfile("sRGB"), plain.mode, "RGB")
        probe = _probe(plain.mode)
        moved = np.asarray(ImageCms.applyTransform(probe, change), np.int16) - np.asarray(probe.convert("RGB"))
        if plain.mode != "CMYK" and np.abs(moved).max() <= VISIBLE:
            return plain.convert("RGB")
        return ImageCms.applyTransform(plain, change) or plain
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):  # damaged, or Pillow without lcms
        return plain.convert("RGB")


def _probe(mode: str) -> Image.Image:
    """A picture with colours from the whole colour space."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    return Image.fromarray(grid).convert(mode)


def _deep_grey_to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grey to 8 bits; Pillow itself would clip at 255."""
    deepest = max((float(np.max(rows, initial=0, where=np.isfinite(rows))) for _, rows in _rows(image)), default=0.0)
    found = np.empty(image.size[::-1], np.uint8)
    for top, rows in _rows(image):
        if image.mode == "F":
            scale = 255.0 if deepest <= 1.0 else 1.0
            levels = np.rint(np.clip(np.nan_to_num(rows, posinf=0.0, neginf=0.0) * scale, 0, 255))
        elif image.mode == "I" and deepest <= 255:  # older Pillow opens 16-bit PNG as "I"
            levels = np.clip(rows, 0, 255)
        else:
            levels = (np.clip(rows, 0, 65535).astype(np.uint32) + 128) // 257
        found[top : top + len(rows)] = levels.astype(np.uint8)
    return Image.fromarray(found)


def _rows(image: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows) part by part, because Pillow copies the pixels."""
    width, height = image.size
    for top in range(0, height, ROWS):
        yield top, np.asarray(image.crop((0, top, width, min(top + ROWS, height))))
