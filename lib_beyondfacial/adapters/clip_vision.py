"""CLIP-ViT-H's features of an aligned face; the model is searched in the users' folders, never downloaded."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import BeyondFacialError
from .files import read_tensors
from .places import weight_files

if TYPE_CHECKING:
    from torch import nn

FOLDERS = ("clip_vision", "CLIP_vision", "ControlNetPreprocessor/clip_vision", "ipadapter", "ip-adapter", "ControlNet")
CONTROLNET = "extensions/sd-webui-controlnet/annotator/downloads/clip_vision"  # beside the models folder
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
NAMED_LIKE_CLIP = re.compile(r"clip|vit[-_]?h|image[-_]?encoder", re.IGNORECASE)
NAMED_LIKE_VIT_H = re.compile(r"clip[-_]h|vit[-_]?h|image[-_]?encoder", re.IGNORECASE)
PLAIN_NAMES = ("model", "pytorch_model")  # usual in Hugging Face folders; then the folder's name is used
PREFIX = "vision_model."
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SUPPORTED_HINT = (
    'choose CLIP-ViT-H in the form of Hugging Face transformers ("models/image_encoder/model.safetensors" of '
    '"h94/IP-Adapter")'
)


@dataclass(frozen=True)
class ClipShape:
    """The sizes of a CLIP vision model; CLIP-ViT-H's by default."""

    hidden_size: int = 1280
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    hidden_act: str = "gelu"

    @property
    def output(self) -> tuple[int, int, int]:
        """The shape of encode_face's answer."""
        return (1, 1 + (self.image_size // self.patch_size) ** 2, self.hidden_size)


VIT_H = ClipShape()


def list_clip_models(models_dirs: Iterable[Path]) -> dict[str, Path]:
    """CLIP vision models by name in the host's models folders, those named like ViT-H first; no file is opened.

    The name is the file's without ending, or the folder's if the file has a general name ("model"). If two have the
    same name, the first folder wins.
    """
    found: dict[str, Path] = {}
    for folder in (place for models_dir in models_dirs for place in _clip_dirs(Path(models_dir))):
        for path in weight_files(folder, SUFFIXES):
            name = path.parent.name if path.stem in PLAIN_NAMES else path.stem
            if NAMED_LIKE_CLIP.search(name):
                found.setdefault(name, path)
    return dict(sorted(found.items(), key=lambda item: (not NAMED_LIKE_VIT_H.search(item[0]), item[0].lower())))


def encode_face(path: Path, aligned: np.ndarray, shape: ClipShape = VIT_H) -> Tensor:
    """The output of the model's last layer but one for an aligned face: hidden_states[-2].

    Args:
        path: the model's file, from list_clip_models.
        aligned: (224, 224, 3) uint8 RGB, an ArcFace-aligned crop.
        shape: the model's; CLIP-ViT-H except in tests.

    Returns (1, 257, 1280) fp32 on the CPU. The features stay in memory, the model (2.5 GB in fp32) does not.
    Raises BeyondFacialError for a file that is gone, damaged or no CLIP-ViT-H.
    """
    path, size = Path(path), shape.image_size
    if aligned.shape != (size, size, 3) or aligned.dtype != np.uint8:
        raise ValueError(f"an aligned face is ({size}, {size}, 3) uint8, not {aligned.shape} {aligned.dtype}")
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise BeyondFacialError(
            f'The CLIP vision model "{path.name}" is gone; put it back or choose another adapter.'
        ) from error
    return _encode(path, stamp, aligned.tobytes(), shape).clone()


def load_clip_model(path: Path, shape: ClipShape = VIT_H) -> nn.Module:
    """Load a file as transformers' CLIPVisionModel in fp32, without the last layer, which no family uses."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    tensors = _vision_tensors(Path(path))
    config = CLIPVisionConfig(**{**asdict(shape), "num_hidden_layers": shape.num_hidden_layers - 1})
    with torch.device("meta"):
        model = CLIPVisionModel(config)
    last = f"{PREFIX}encoder.layers.{shape.num_hidden_layers - 1}."
    is_deeper = f"{PREFIX}encoder.layers.{shape.num_hidden_layers}.layer_norm1.weight" in tensors
    is_shallower = f"{last}layer_norm1.weight" not in tensors
    wanted = {key: tensor.shape for key, tensor in model.state_dict().items() if not key.endswith("position_ids")}
    fits = all(key in tensors and tensors[key].shape == size for key, size in wanted.items())
    if is_deeper or is_shallower or not fits:
        raise BeyondFacialError(f'"{Path(path).name}" is no CLIP-ViT-H vision model; {SUPPORTED_HINT}.')
    wide = {key: tensors.pop(key).float() for key in wanted}  # one by one: no second copy in memory
    model.load_state_dict(wide, strict=False, assign=True)
    embeddings = model.vision_model.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions)[None]  # a buffer that is missing in some files
    return model.eval()


def unload_features() -> None:
    """Free the features kept in memory."""
    _encode.cache_clear()


def _clip_dirs(models_dir: Path) -> list[Path]:
    """The existing folders for CLIP vision models, in a host's models folder or beside it."""
    places = [*(models_dir / name for name in FOLDERS), models_dir.parent / CONTROLNET]
    found: list[Path] = []
    for place in places:
        if place.is_dir() and not any(place.samefile(other) for other in found):  # letters of any case on Windows
            found.append(place)
    return found


@functools.lru_cache(maxsize=16)
def _encode(path: Path, _stamp: int, pixels: bytes, shape: ClipShape) -> Tensor:
    size = shape.image_size
    picture = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1)
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    with torch.no_grad():
        features = load_clip_model(path, shape)((picture.float() / 255 - mean)[None] / std).last_hidden_state
    if not bool(torch.isfinite(features).all()):
        raise BeyondFacialError(f'"{path.name}" gives numbers that are not finite; {SUPPORTED_HINT}.')
    return features


def _vision_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file's vision part; files of a whole CLIP also have a text part."""
    found = read_tensors(path, "CLIP vision model", PREFIX)
    if not found:
        raise BeyondFacialError(f'"{path.name}" is no CLIP vision model; {SUPPORTED_HINT}.')
    return found
