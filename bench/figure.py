"""The documents' figures, from runs of the toy world: `python -m bench.figure [--pair N] [--rows N N] [--out FOLDER]`.

method.png shows the method's steps in one run, scenes.png some pairs' pictures by method. Nothing is drawn by hand:
a mask policy and a face finder in the product's place note what passes through them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.methods import METHODS
from bench.painter import REPOSITORY, TITLE, Painted, Painter
from bench.pairs import make_pairs
from demo.dollhouse.world import SIZE
from lib_beyondfacial.faces.face import Face
from lib_beyondfacial.method.head_refinement import CropBox, crop_around, crop_resize
from lib_beyondfacial.method.mask import AdaptiveMask, MaskPolicy
from lib_beyondfacial.method.predictions import Predictions
from lib_beyondfacial.sampling.faces_in_picture import box_of
from lib_beyondfacial.sampling.plan import Plan
from lib_beyondfacial.settings.parameters import MethodParameters

OUT = REPOSITORY / "docs"
SCENES = {"plain": "no identity", "single_line": "adapter in the one line", "beyondfacial": "BeyondFacial"}
STEPS_BEFORE_REFINEMENT = 1  # levels before the refinement at which the two predictions are shown


@dataclass(eq=False)
class Recording:
    """What one run of one picture passed on.

    levels: per fused level (D_s, D_k, A, M). searched: the pictures in which a face was looked for, and the faces.
    """

    levels: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)
    searched: list[tuple[np.ndarray, list[Face]]] = field(default_factory=list)

    def record(self, plan: Plan) -> Plan:
        """The same plan, whose mask policy and face finder are noted."""

        def find_faces(picture: np.ndarray) -> list[Face]:
            faces = plan.find_faces(picture)
            self.searched.append((picture, faces))
            return faces

        def mask_policy(parameters: MethodParameters) -> MaskPolicy:
            return RecordedPolicy(parameters, self)

        return replace(plan, find_faces=find_faces, mask_policy=mask_policy)


class RecordedPolicy(AdaptiveMask):
    """The product's policy, which notes every level."""

    def __init__(self, parameters: MethodParameters, recording: Recording):
        super().__init__(parameters)
        self.recording = recording

    def compute_masks(
        self, position: float, predictions: Predictions, attention: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        masks = super().compute_masks(position, predictions, attention)
        (name,) = masks
        self.recording.levels.append((predictions.semantic, predictions.identity[name], attention[name], masks[name]))
        return masks


@torch.no_grad()
def decode(painter: Painter, latents: Tensor) -> np.ndarray:
    """The picture of x0 latents (1, C, h, w), RGB uint8."""
    from modules import shared

    picture = shared.sd_model.decode_first_stage(latents.to(painter.device))[0].float().cpu()
    return (((picture + 1) / 2).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)


def make_scenes(painter: Painter, pair_index: int) -> list[tuple[str, np.ndarray]]:
    """(caption, picture): the photo, and the pair's picture by each of three methods, from the same seed."""
    pair = make_pairs(pair_index + 1)[pair_index]
    pictures = [(caption, painter.paint([pair], METHODS[name]).images[0]) for name, caption in SCENES.items()]
    return [("the photo", pair.photo), *pictures]


def make_panels(painter: Painter, pair_index: int) -> list[tuple[str, np.ndarray]]:
    """(caption, picture) of every step, in the order of docs/method.md."""
    pair = make_pairs(pair_index + 1)[pair_index]
    plain = painter.paint([pair], METHODS["plain"]).images[0]
    recording, method = Recording(), METHODS["beyondfacial"]
    plan = recording.record(painter.make_plan([pair], method, (), Painted()))
    request = painter.request([pair], method) | {"alwayson_scripts": {TITLE: {"args": [plan]}}}
    images, _ = painter.host.txt2img(**request)
    before, faces = recording.searched[0]
    after = recording.searched[1][0]
    crop = crop_of(before, faces)
    shown = max(0, len(recording.levels) - 1 - STEPS_BEFORE_REFINEMENT)
    semantic, identity, attention, mask = recording.levels[shown]
    return [
        ("the photo", pair.photo),
        ("plain, without us", plain),
        ("$D_s$: text alone", decode(painter, semantic)),
        ("$D_k$: with the identity", decode(painter, identity)),
        ("$A$: where a head can be", attention[0, 0].float().cpu().numpy()),
        ("$M$: where it is fused", mask[0, 0].float().cpu().numpy()),
        ("the head so far", cut_out(before, crop)),
        ("the head refined", cut_out(after, crop)),
        ("the result", np.asarray(images[0].convert("RGB"))),
    ]


def crop_of(picture: np.ndarray, faces: list[Face]) -> CropBox:
    """The square that the refinement cuts out."""
    crop = crop_around(box_of(faces[0]), (picture.shape[0], picture.shape[1])) if faces else None
    if crop is None:
        raise SystemExit("No small head was found in this pair's picture; choose another --pair.")
    return crop


def cut_out(picture: np.ndarray, crop: CropBox) -> np.ndarray:
    """The square of an RGB uint8 picture, enlarged as the refinement enlarges it."""
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float()
    return crop_resize(pixels, crop, SIZE).clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)


def draw(rows: list[list[tuple[str, np.ndarray]]], side: float, path: Path) -> None:
    """Rows of captioned pictures; side: of a picture, in inches."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    size = (side * len(rows[0]), (side + 0.3) * len(rows))
    figure, axes = plt.subplots(len(rows), len(rows[0]), figsize=size, dpi=110, squeeze=False)
    for ax, (caption, picture) in zip(axes.flat, (panel for row in rows for panel in row), strict=True):
        ax.imshow(picture, cmap="magma", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
        ax.set_title(caption, fontsize=8)
        ax.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, facecolor="white", bbox_inches="tight", pad_inches=0.05)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", type=int, default=3, help="which of the tuning pairs is in method.png")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[20, 25], help="which are in scenes.png; these are near the median"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    painter = Painter()
    draw([make_panels(painter, args.pair)], 1.55, args.out / "method.png")
    draw([make_scenes(painter, index) for index in args.rows], 1.9, args.out / "scenes.png")


if __name__ == "__main__":
    main()
