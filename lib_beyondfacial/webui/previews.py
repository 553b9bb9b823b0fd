"""Masks as pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HOT = np.array([255.0, 40.0, 0.0])
OPACITY = 0.65
Box = tuple[int, int, int, int]


def plain_mask(mask: np.ndarray | None, size: tuple[int, int], box: Box | None = None) -> Image.Image:
    """The fusion mask as a grey picture, white = identity line.

    Args:
        mask: (h, w) in [0, 1], latent size; None (the identity line never ran) is black.
        size: (width, height) of the picture it belongs to.
        box: x, y, width, height of the part of the picture that it covers; None: all of it.
    """
    if box is not None:
        whole = Image.new("RGB", size)
        whole.paste(plain_mask(mask, box[2:]), box[:2])
        return whole
    if mask is None or mask.size == 0:
        return Image.new("RGB", size)
    levels = np.rint(np.clip(np.nan_to_num(mask), 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(levels).resize(size, Image.Resampling.BILINEAR).convert("RGB")


def heat_map(image: Image.Image, mask: np.ndarray | None, box: Box | None = None) -> Image.Image:
    """The picture in dimmed grey with the mask laid over it in red; `mask` and `box` as in plain_mask."""
    opacity = OPACITY * np.asarray(plain_mask(mask, image.size, box), dtype=np.float64) / 255.0
    ground = np.asarray(image.convert("L").convert("RGB"), dtype=np.float64) * 0.8
    return Image.fromarray(np.rint(ground * (1.0 - opacity) + HOT * opacity).astype(np.uint8))


def write_caption(picture: Image.Image, text: str) -> None:
    """Write a line of text into the picture's lower edge, white on black, in place."""
    font = ImageFont.load_default()
    left, top, right, bottom = font.getbbox(text)
    line = Image.new("L", (int(right - left) + 6, int(bottom - top) + 4))
    ImageDraw.Draw(line).text((3 - left, 2 - top), text, fill=255, font=font)
    width = min(max(line.width, picture.width // 3), picture.width)
    line = line.resize((width, max(line.height * width // line.width, 1)), Image.Resampling.BILINEAR)
    picture.paste(line.convert("RGB"), (0, picture.height - line.height))


def to_base64_png(pixels: np.ndarray) -> str:
    """RGB uint8 pixels as base64 text of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)  # lists hold hundreds
    return base64.b64encode(buffer.getvalue()).decode()
