"""Serves as `modules.images`, `modules.infotext_utils` and `modules.generation_parameters_copypaste`."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

from PIL import Image, PngImagePlugin


def quote(text: Any) -> Any:
    """An infotext value; in quotes if it would break the line."""
    return json.dumps(text, ensure_ascii=False) if any(mark in str(text) for mark in ",\n:") else text


def unquote(text: str) -> str:
    return json.loads(text) if len(text) > 1 and text[0] == text[-1] == '"' else text


def parse_generation_parameters(text: str) -> dict[str, str]:
    """An infotext's prompts and parameters; a size gives "Size-1" and "Size-2"."""
    prompts, _, line = text.strip().rpartition("\n")
    prompt, _, negative = prompts.partition("\nNegative prompt: ")
    found = {"Prompt": prompt, "Negative prompt": negative}
    for key, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line):
        size = re.fullmatch(r"(\d+)x(\d+)", value)
        found |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: unquote(value)}
    return found


def encode_pil_to_base64(image: Image.Image) -> str:
    """As PNG, with the infotext inside."""
    info = PngImagePlugin.PngInfo()
    for key, value in image.info.items():
        if isinstance(value, str):
            info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return base64.b64encode(buffer.getvalue()).decode()
