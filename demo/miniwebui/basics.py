"""Serves as `modules.errors`, `.paths`, `.devices`, `.rng` and `.images`."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

script_path = data_path = str(Path(__file__).parent)
models_path = ""  # set by boot()
device = cpu = torch.device("cpu")
dtype = dtype_vae = dtype_unet = torch.float32


class NansException(Exception):  # noqa: N818  the host's name
    """The UNet or the VAE made a picture of nothing but NaN."""


def report(message: str, *, exc_info: bool = False) -> None:
    """What becomes of an exception in a script or callback: it is printed, and the host goes on."""
    print(textwrap.indent(message, "*** ", lambda _: True), file=sys.stderr)
    if exc_info:
        print(textwrap.indent(traceback.format_exc(), "    "), file=sys.stderr)


def autocast(disable: bool = False) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext()


without_autocast = autocast


def test_for_nans(x: Tensor, where: str) -> None:
    if torch.isnan(x).all():
        raise NansException(f"A tensor with all NaNs was produced in {where}.")


class ImageRNG:
    """One CPU generator per picture, so that a batch equals its pictures made one by one."""

    def __init__(self, shape: tuple[int, ...], seeds: list[int]):
        self.shape, self.seeds = tuple(shape), seeds
        self.generators = [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]
        torch.manual_seed(int(seeds[-1]))  # the host leaves the global generator like this, too

    def next(self) -> Tensor:
        return torch.stack([torch.randn(self.shape, generator=generator) for generator in self.generators])


def quote(text: Any) -> Any:
    """An infotext value; in quotes if it would break the line."""
    return json.dumps(text, ensure_ascii=False) if any(mark in str(text) for mark in ",\n:") else text


def parse_infotext(text: str) -> dict[str, str]:
    """The prompt as "Prompt", and the parameters of the last line; the inverse of quote."""
    *lines, last = text.strip().split("\n")
    found = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    return {"Prompt": "\n".join(lines)} | {key: json.loads(v) if v.startswith('"') else v for key, v in found}


def encode_pil_to_base64(image: Image.Image) -> str:
    """As save_png() writes it."""
    buffer = io.BytesIO()
    save_png(image, buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def save_png(image: Image.Image, file: Any) -> None:
    """The image with its texts, the infotext among them."""
    info = PngImagePlugin.PngInfo()
    for key, value in image.info.items():
        if isinstance(value, str):
            info.add_text(key, value)
    image.save(file, "PNG", pnginfo=info)


def save_image(
    image: Image.Image, path: str, basename: str, seed: Any, *_more: Any, info: str, suffix: str = "", **_others: Any
) -> tuple[str, None]:
    """Save into the folder under a number of its own; returns the file's name, and None for the text file's."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.iterdir()))
    file = folder / f"{number:05}-{basename}{seed}{suffix}.png"
    image.info["parameters"] = info
    save_png(image, file)
    return str(file), None
