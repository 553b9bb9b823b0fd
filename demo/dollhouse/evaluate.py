"""Judging pictures of the Dollhouse: shot, scene, action, style, and what a head looks like. Not used by the method.

Trained by `python -m demo.dollhouse.train.evaluator` on renders roughened as a diffusion model's pictures are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.dollhouse.extras import ACCESSORIES, EXPRESSIONS, MODIFIERS, OBJECTS
from demo.dollhouse.world import ACTIONS, EYE_COLOURS, HAIR_COLOURS, HAIR_STYLES, SCENES, SHOTS, STYLES

WEIGHTS = Path(__file__).resolve().parent / "weights" / "evaluator.safetensors"
PICTURE_CLASSES = {"shot": SHOTS, "scene": SCENES, "action": ACTIONS, "style": STYLES}
HEAD_CLASSES = {
    "hair_colour": tuple(HAIR_COLOURS),
    "hair_style": HAIR_STYLES,
    "eyes": tuple(EYE_COLOURS),
    "glasses": (False, True),
    "beard": (False, True),
    "gender": ("man", "woman"),
}
# What pictures and heads show beside that; evaluators of earlier weights do not tell it.
ADDED_CLASSES = {"item": OBJECTS, "modifier": MODIFIERS, "count": (1, 2)}
WORN_CLASSES = {"expression": EXPRESSIONS, "accessory": ACCESSORIES}
AMOUNTS = 2  # skin tone and face width, after a head's classes
PICTURE_SIZE, CROP_SIZE = 128, 112


def outputs_of(classes: dict[str, tuple]) -> int:
    return sum(map(len, classes.values()))


def conv(inside: int, outside: int, size: int, stride: int) -> nn.Sequential:
    layer = nn.Conv2d(inside, outside, size, stride, (size - stride + 1) // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outside), nn.ReLU())


class PictureNet(nn.Module):
    """(B, 3, 128, W) in [-1, 1] -> logits of the picture's classes, side by side."""

    def __init__(self, outputs: int = outputs_of(PICTURE_CLASSES | ADDED_CLASSES)) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AvgPool2d(2), conv(3, 24, 4, 2), conv(24, 36, 3, 1), conv(36, 64, 3, 2),
            conv(64, 64, 3, 1), conv(64, 96, 3, 2), conv(96, 96, 3, 1),
        )  # fmt: skip
        # A wide picture's places are as many, and wider.
        self.places = nn.Sequential(nn.Conv2d(96, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(8), nn.Flatten())
        self.out = nn.Linear(96 + 16 * 8 * 8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.out(torch.cat([x.mean((2, 3)), self.places(x)], 1))


class HeadNet(nn.Module):
    """(B, 3, 112, 112) aligned crop in [-1, 1] -> logits of the head's classes, then skin tone and face width."""

    def __init__(self, outputs: int = outputs_of(HEAD_CLASSES | WORN_CLASSES) + AMOUNTS) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AvgPool2d(2), conv(3, 32, 4, 2), conv(32, 48, 3, 1), conv(48, 64, 3, 2),
            conv(64, 64, 3, 1), conv(64, 96, 3, 2),
        )  # fmt: skip
        self.places = nn.Sequential(nn.Conv2d(96, 16, 1), nn.ReLU(), nn.Flatten())
        self.out = nn.Linear(96 + 16 * 7 * 7, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.out(torch.cat([x.mean((2, 3)), self.places(x)], 1))


def to_input(images: np.ndarray, size: int) -> Tensor:
    """(n, H, W, 3) uint8 RGB -> (n, 3, h, w) in [-1, 1], the shorter side `size` long."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    wanted = [round(side * size / min(x.shape[-2:])) for side in x.shape[-2:]]
    if list(x.shape[-2:]) != wanted:
        x = F.interpolate(x, wanted, mode="bilinear", antialias=True, align_corners=False)
    return x


def classes_of(net: nn.Module, first: dict[str, tuple], added: dict[str, tuple], amounts: int = 0) -> dict[str, tuple]:
    """Which classes a judge tells: all, or the first ones alone."""
    classes = first | added
    return classes if net.out.out_features == outputs_of(classes) + amounts else first


class Evaluator:
    """The two judges with their trained weights."""

    def __init__(self, picture: PictureNet, head: HeadNet):
        self.picture, self.head = picture.eval(), head.eval()
        self.picture_classes = classes_of(picture, PICTURE_CLASSES, ADDED_CLASSES)
        self.head_classes = classes_of(head, HEAD_CLASSES, WORN_CLASSES, AMOUNTS)

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Evaluator:
        from safetensors.torch import load_file  # noqa: PLC0415  only here

        tensors = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
        outputs = {name: len(tensors[f"{name}.out.bias"]) for name in ("picture", "head")}
        nets = {"picture": PictureNet(outputs["picture"]), "head": HeadNet(outputs["head"])}
        for name, net in nets.items():
            net.load_state_dict({k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{name}.")})
        return cls(**nets)

    @staticmethod
    @torch.no_grad()
    def _run(net: nn.Module, images: np.ndarray, size: int, batch: int = 64) -> Tensor:
        parts = [net(to_input(images[i : i + batch], size)) for i in range(0, len(images), batch)]
        return torch.cat(parts) if parts else torch.zeros(0, net.out.out_features)

    @staticmethod
    def _names(logits: Tensor, classes: dict[str, tuple]) -> dict[str, np.ndarray]:
        parts = logits.split(list(map(len, classes.values())), 1)
        return {
            k: np.array(names)[part.argmax(1).numpy()] for (k, names), part in zip(classes.items(), parts, strict=True)
        }

    def judge(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """(n, H, W, 3) uint8 RGB -> shot, scene, action, style: an array of n names each; item (held), modifier, count
        (of people), of wide pictures as well as of square ones, where the weights tell them."""
        return self._names(self._run(self.picture, images, PICTURE_SIZE), self.picture_classes)

    def attributes(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """(n, 112, 112, 3) uint8 RGB, aligned as `align_face` does -> an array of n values for each attribute.

        hair_colour, hair_style, eyes, gender are names, glasses and beard bools, skin (0..1) and width floats.
        expression and accessory come with them where the weights tell them. A bald head's hair colour shows in brows
        and beard only.
        """
        logits = self._run(self.head, crops, CROP_SIZE)
        names = self._names(logits[:, :-AMOUNTS], self.head_classes)
        skin, width = logits[:, -AMOUNTS:].numpy().T
        return {**names, "skin": np.clip((skin + 1) / 2, 0, 1), "width": 0.88 + 0.12 * width}
