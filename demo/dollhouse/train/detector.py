"""Train the face detector: `python -m demo.dollhouse.train.detector`, then `--soft` once there is an autoencoder.

SCRFD's form for 128 x 128 pictures: strides 8, 16, 32, two anchors at every place (here one for the smaller, one for
the larger heads of the level), scores, distances to the four sides and to five landmarks in units of the stride.
`--soft` goes on for some steps with heads that went through the autoencoder among the others.
"""

from __future__ import annotations

import argparse
import shutil

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.dollhouse.draw import Canvas, draw_scene
from demo.dollhouse.train.common import SIZE, Run, drawn_pictures, write_card
from demo.dollhouse.train.seeing import (
    PACK_OF,
    Residual,
    calibrate_norms,
    conv_norm,
    decoded,
    decoded_pictures,
    export_onnx,
    roughen,
)
from demo.dollhouse.world import SCENES

STRIDES = (8, 16, 32)
# Smallest and largest head (square root of its box's area, px) of each level's two anchors; they overlap on purpose.
RANGES = (((0, 29), (24, 44)), ((34, 54), (46, 74)), ((58, 94), (82, 999)))
ANCHORS, VALUES = 2, 15
EMPTY_SHARE, DECODED_SHARE, DECODED = 0.12, 0.4, 640


class DetectorNet(nn.Module):
    """A small pyramid; (B, 3, 128, 128) -> per stride (B, H, W, 2 anchors, score logit + 4 + 10)."""

    def __init__(self, widths: tuple[int, ...] = (20, 40, 56, 72), neck: int = 32):
        super().__init__()
        a, b, c, d = widths
        self.stem = nn.Sequential(conv_norm(3, a, 6, 4), nn.ReLU())
        self.levels = nn.ModuleList(
            nn.Sequential(conv_norm(i, o, 3, 2), nn.ReLU(), Residual(o, 40)) for i, o in ((a, b), (b, c), (c, d))
        )
        self.lateral = nn.ModuleList(nn.Conv2d(w, neck, 1) for w in (b, c, d))
        self.smooth = nn.ModuleList(nn.Sequential(conv_norm(neck, neck, 3), nn.ReLU()) for _ in STRIDES)
        self.heads = nn.ModuleList(nn.Conv2d(neck, ANCHORS * VALUES, 1) for _ in STRIDES)
        for head in self.heads:
            head.bias.data.view(ANCHORS, VALUES)[:] = torch.tensor([-4.0] + [1.5] * 4 + [0.0] * 10)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        maps = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for i in (1, 0):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], scale_factor=2.0, mode="nearest")
        maps = [head(smooth(m)) for head, smooth, m in zip(self.heads, self.smooth, maps, strict=True)]
        return [m.permute(0, 2, 3, 1).reshape(len(m), m.shape[2], m.shape[3], ANCHORS, VALUES) for m in maps]


class ScrfdForm(nn.Module):
    """The nine outputs that insightface decodes: scores x 3, boxes x 3, landmarks x 3, each (places * 2, k)."""

    def __init__(self, net: DetectorNet):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        rows = [m.reshape(-1, VALUES) for m in self.net(x)]
        scores = [r[:, :1].sigmoid() for r in rows]
        return (*scores, *[r[:, 1:5].relu() for r in rows], *[r[:, 5:] for r in rows])


def targets_of(
    box: np.ndarray | None, landmarks: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per stride: wanted score (H, W, 2), wanted values (H, W, 1, 14) in strides, 1 / (head size in strides)."""
    out = []
    for stride, ranges in zip(STRIDES, RANGES, strict=True):
        n = SIZE // stride
        score, values = np.zeros((n, n, ANCHORS), np.float32), np.zeros((n, n, 1, VALUES - 1), np.float32)
        if box is None:
            out.append((score, values, np.float32(0)))
            continue
        size = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
        y, x = np.mgrid[:n, :n] * stride
        off = np.hypot(x - (box[0] + box[2]) / 2, y - (box[1] + box[3]) / 2)
        quality = 1 - 0.4 * (off / (0.3 * size)) ** 2
        quality = np.where(off <= 0.3 * size, quality, 0)
        quality.flat[off.argmin()] = 1
        for a, (small, large) in enumerate(ranges):
            if small <= size <= large:
                score[..., a] = quality
        values[:, :, 0, :4] = np.stack([x - box[0], y - box[1], box[2] - x, box[3] - y], -1)
        values[:, :, 0, 4:] = (landmarks - np.stack([x, y], -1)[:, :, None]).reshape(n, n, 10)
        out.append((score, values / stride, np.float32(stride / size)))
    return out


def detection_loss(maps: list[Tensor], targets: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Quality focal loss on the scores, relative L1 on sides and landmarks where there is a head."""
    score_loss, value_loss, found = 0.0, 0.0, 0.0
    for m, (score, values, scale) in zip(maps, targets, strict=True):
        logit = m[..., 0]
        focus = (logit.sigmoid() - score).abs().detach() ** 2
        score_loss = score_loss + (focus * F.binary_cross_entropy_with_logits(logit, score, reduction="none")).sum()
        off = ((m[..., 1:] - values) * scale[:, None, None, None, None]).abs()
        value_loss = value_loss + ((off[..., :4].mean(-1) + 2 * off[..., 4:].mean(-1)) * (score > 0)).sum()
        found = found + (score > 0).sum()
    return (score_loss + 3 * value_loss) / found.clamp(min=1)


def detector_input(images: np.ndarray) -> Tensor:
    """(n, H, W, 3) uint8 RGB -> as insightface feeds a detector."""
    return (torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() - 127.5) / 128


def empty_scenes(n: int, seed: int) -> list[np.ndarray]:
    """Pictures of scenes with nobody in them."""
    rng, out = np.random.default_rng(seed), []
    for k in range(n):
        canvas = Canvas(SIZE, SIZE)
        draw_scene(canvas, SCENES[k % len(SCENES)], rng)
        out.append(canvas.finish())
    return out


def moved(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Half of the pictures are zoomed and shifted a little, so that all sizes and places of a head occur."""
    if rng.random() < 0.5:
        return image, points
    head = points[1, 0] - points[0, 0]
    zoom = rng.uniform(0.75, 1.35)
    centre = points[:2].mean(0)
    reach = max(0.0, SIZE / 2 - 0.5 * head * zoom)
    shift = SIZE / 2 + rng.uniform(-0.85, 0.85, 2) * reach - zoom * centre
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    out = cv2.warpAffine(image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
    return out, points * zoom + shift


class Batches:
    """Draws batches; some places are empty scenes, and with `soft` some have been through the autoencoder."""

    def __init__(self, size: int, soft: bool):
        self.size, self.soft = size, soft
        self.images, self.truths = drawn_pictures(20000, seed=1)
        self.empty = empty_scenes(240, seed=4)
        if soft:
            self.decoded = decoded_pictures(20000, 1, DECODED)
            self.decoded_empty = decoded("empty_64", lambda: np.stack(self.empty[:64]))

    def picture(self, rng: np.random.Generator) -> tuple[np.ndarray, list]:
        soft = self.soft and rng.random() < DECODED_SHARE
        if rng.random() < EMPTY_SHARE:
            scenes = self.decoded_empty if soft else self.empty
            scene = scenes[rng.integers(len(scenes))]
            return scene if soft else roughen(scene, rng), targets_of(None, None)
        i = int(rng.integers(DECODED if soft else len(self.images)))
        truth = self.truths[i][1]
        points = np.concatenate([np.reshape(truth.head_box, (2, 2)), truth.landmarks])
        image, points = moved(self.decoded[i] if soft else np.asarray(self.images[i]), points, rng)
        return image if soft else roughen(image, rng), targets_of(points[:2].ravel(), points[2:])

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, list]:
        pictures, targets = zip(*[self.picture(rng) for _ in range(self.size)], strict=True)
        x = detector_input(np.stack(pictures)).contiguous(memory_format=torch.channels_last)
        levels = zip(*targets, strict=True)
        return x, [tuple(torch.from_numpy(np.stack(v)) for v in zip(*level, strict=True)) for level in levels]


def train(model: DetectorNet, name: str, batches: Batches, steps: int, lr: float) -> None:
    model.train()
    run = Run(name, model, steps, lr=lr, ema=0.98, seed=3)

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        x, targets = batches.draw(rng)
        return detection_loss(model(x), targets)

    run.train(loss_of, log_every=25)
    run.use_ema()
    rng = np.random.default_rng(5)
    calibrate_norms(model, [batches.draw(rng)[0] for _ in range(20)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--soft", action="store_true", help="go on with heads that went through the autoencoder")
    parser.add_argument("--soft-steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    torch.manual_seed(3)
    model = DetectorNet().to(memory_format=torch.channels_last)
    train(model, "detector", Batches(args.batch, soft=False), args.steps, 3e-3)
    if args.soft:
        train(model, "detector_soft", Batches(args.batch, soft=True), args.soft_steps, 1e-3)
    names = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES]
    first, *others = (pack / "det.onnx" for pack in PACK_OF.values())
    export_onnx(ScrfdForm(model), first, torch.zeros(1, 3, SIZE, SIZE), names, batch_axis=False)
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(first, path)
    parameters = sum(p.numel() for p in model.parameters())
    write_card("detector", {"parameters": parameters, "steps": args.steps + args.soft * args.soft_steps})


if __name__ == "__main__":
    main()
