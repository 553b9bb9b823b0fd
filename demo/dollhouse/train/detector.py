"""Train the face detector: `python -m demo.dollhouse.train.detector`, when the autoencoder is there.

SCRFD's form for pictures of the place's size: strides 8, 16, 32, two anchors at every place (here one for the smaller,
one for the larger heads of the level), scores, distances to the four sides and to five landmarks in units of the
stride. Some of the heads went through the autoencoder, as those of all generated pictures do.
"""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.dollhouse.draw import Canvas, draw_scene
from demo.dollhouse.train.drawing import kept, training_pictures, wide_pictures
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, single_run
from demo.dollhouse.train.seeing import Residual, calibrate_norms, conv_norm, decoded, export_onnx, roughen
from demo.dollhouse.world import SCENES

PLANS = {"cpu": Plan(1300, 32, 3e-3), "cuda": Plan(3000, 64, 3e-3)}
STRIDES = (8, 16, 32)
# Smallest and largest head (square root of its box's area, px of a 128 px picture) of each level's two anchors; they
# overlap on purpose.
RANGES = (((0, 29), (24, 44)), ((34, 54), (46, 74)), ((58, 94), (82, 999)))
ANCHORS, VALUES = 2, 15
EMPTY_SHARE, DECODED_SHARE, WIDE_SHARE = 0.12, 0.3, 0.35


class DetectorNet(nn.Module):
    """A small pyramid; (B, 3, H, W) -> per stride (B, H, W, 2 anchors, score logit + 4 + 10)."""

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


def targets_of(side: int, heads: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of heads (7, 2): two corners of the box and five landmarks. Per stride: wanted score (H, W, 2), wanted values
    (H, W, 1, 14) in strides, 1 / (head size in strides) (H, W, 1, 1); a place belongs to the head that is nearest."""
    out = []
    for stride, ranges in zip(STRIDES, RANGES, strict=True):
        n = side // stride
        score, values = np.zeros((n, n, ANCHORS), np.float32), np.zeros((n, n, 1, VALUES - 1), np.float32)
        scale, nearest = np.zeros((n, n, 1, 1), np.float32), np.full((n, n), np.inf)
        y, x = np.mgrid[:n, :n] * stride
        for points in heads:
            (x0, y0), (x1, y1) = points[:2]
            size = float(np.sqrt((x1 - x0) * (y1 - y0)))
            off = np.hypot(x - (x0 + x1) / 2, y - (y0 + y1) / 2) / size
            quality = np.where(off <= 0.3, 1 - 0.4 * (off / 0.3) ** 2, 0)
            quality.flat[off.argmin()] = 1
            is_nearest = off < nearest
            nearest = np.minimum(nearest, off)
            for a, (small, large) in enumerate(ranges):
                is_of_anchor = small <= size * 128 / side <= large
                score[..., a] = np.where(is_nearest, quality * is_of_anchor, score[..., a])
            sides = np.stack([x - x0, y - y0, x1 - x, y1 - y], -1)
            marks = (points[2:] - np.stack([x, y], -1)[:, :, None]).reshape(n, n, 10)
            values[is_nearest, 0] = np.concatenate([sides, marks], -1)[is_nearest] / stride
            scale[is_nearest] = stride / size
        out.append((score, values, scale))
    return out


def detection_loss(maps: list[Tensor], targets: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Quality focal loss on the scores, relative L1 on sides and landmarks where there is a head."""
    score_loss, value_loss, found = 0.0, 0.0, 0.0
    for m, (score, values, scale) in zip(maps, targets, strict=True):
        logit = m[..., 0]
        focus = (logit.sigmoid() - score).abs().detach() ** 2
        score_loss = score_loss + (focus * F.binary_cross_entropy_with_logits(logit, score, reduction="none")).sum()
        off = ((m[..., 1:] - values) * scale).abs()
        value_loss = value_loss + ((off[..., :4].mean(-1) + 2 * off[..., 4:].mean(-1)) * (score > 0)).sum()
        found = found + (score > 0).sum()
    return (score_loss + 3 * value_loss) / found.clamp(min=1)


def detector_input(images: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 RGB -> as insightface feeds a detector."""
    return (images.permute(0, 3, 1, 2).float() - 127.5) / 128


def empty_scenes(place: Place, n: int, seed: int) -> np.ndarray:
    """Pictures of scenes with nobody in them, (n, size, size, 3)."""

    def make() -> np.ndarray:
        rng, out = np.random.default_rng(seed), []
        for k in range(n):
            canvas = Canvas(place.size, place.size)
            draw_scene(canvas, SCENES[k % len(SCENES)], rng)
            out.append(canvas.finish())
        return np.stack(out)

    return kept(place, f"empty_{n}_{seed}", make)


def moved(image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Half of the pictures are zoomed and shifted a little, so that all sizes and places of a head occur."""
    if rng.random() < 0.5:
        return image, points
    side = image.shape[0]
    head = points[1, 0] - points[0, 0]
    zoom = rng.uniform(0.75, 1.35)
    centre = points[:2].mean(0)
    reach = max(0.0, side / 2 - 0.5 * head * zoom)
    shift = side / 2 + rng.uniform(-0.85, 0.85, 2) * reach - zoom * centre
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    out = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    return out, points * zoom + shift


def fitted(
    image: np.ndarray, heads: list[np.ndarray], side: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A whole picture, wide or with several heads, somewhere in a square, as large as fits or smaller; the rest is
    black, as insightface leaves it, or goes on."""
    height, width = image.shape[:2]
    zoom = side / max(height, width) * (1 if rng.random() < 0.3 else rng.uniform(0.7, 1))
    shift = rng.random(2) * (side - zoom * np.array([width, height])) * (rng.random() < 0.5)
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    border = cv2.BORDER_CONSTANT if rng.random() < 0.6 else cv2.BORDER_REPLICATE
    out = cv2.warpAffine(image, matrix, (side, side), borderMode=border)
    return out, [points * zoom + shift for points in heads]


class Batches:
    """Makes batches; some places are empty scenes, and some have been through the autoencoder."""

    def __init__(self, place: Place, batch: int):
        self.side, self.batch = place.size, batch
        self.images, self.truths = training_pictures(place)
        self.wide = wide_pictures(place)
        self.empty = empty_scenes(place, place.amounts.empty_scenes, seed=4)
        self.decoded = decoded(place, "part_0", self.images[: min(place.amounts.decoded, len(self.images) // 2)])
        self.decoded_empty = decoded(place, "empty", self.empty[:64])

    def picture(self, rng: np.random.Generator) -> tuple[np.ndarray, list]:
        soft = rng.random() < DECODED_SHARE
        if rng.random() < EMPTY_SHARE:
            scenes = self.decoded_empty if soft else self.empty
            scene = np.asarray(scenes[rng.integers(len(scenes))])
            return scene if soft else roughen(scene, rng), targets_of(self.side, [])
        images, truths = self.decoded if soft else self.images, self.truths
        if not soft and rng.random() < WIDE_SHARE:
            images, truths = self.wide[int(rng.integers(len(self.wide)))]
        i = int(rng.integers(len(images)))
        heads = [np.concatenate([np.reshape(t.head_box, (2, 2)), t.landmarks]) for t in truths[i][1].heads]
        image = np.asarray(images[i])
        if len(heads) > 1 or image.shape[0] != image.shape[1]:
            image, heads = fitted(image, heads, self.side, rng)
        else:
            image, points = moved(image, heads[0], rng)
            heads = [points]
        return image if soft else roughen(image, rng), targets_of(self.side, heads)

    def __call__(self, rng: np.random.Generator) -> tuple[np.ndarray, list]:
        pictures, targets = zip(*[self.picture(rng) for _ in range(self.batch)], strict=True)
        levels = zip(*targets, strict=True)
        return np.stack(pictures), [tuple(np.stack(v) for v in zip(*level, strict=True)) for level in levels]


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED) -> bool:
    batches = Batches(place, plan.batch)
    torch.manual_seed(3)
    model = DetectorNet().to(place.device, memory_format=torch.channels_last)
    run = Run(place, "detector", model, plan, seed=3)

    def to_input(pictures: np.ndarray) -> Tensor:
        x = detector_input(torch.from_numpy(pictures).to(place.device))
        return x.contiguous(memory_format=torch.channels_last)

    def loss_of(batch: tuple[np.ndarray, list], generator: torch.Generator) -> Tensor:
        with place.autocast():
            maps = model(to_input(batch[0]))
        targets = [tuple(torch.from_numpy(v).to(place.device) for v in level) for level in batch[1]]
        return detection_loss([m.float() for m in maps], targets)

    if not run.train(loss_of, batches, budget, place.loaders):
        return False
    run.use_ema()
    rng = np.random.default_rng(5)
    calibrate_norms(model, [to_input(batches(rng)[0]) for _ in range(20)])
    names = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES]
    first, second = (place.pack(which) / "det.onnx" for which in ("feed", "judge"))
    export_onnx(ScrfdForm(model), first, torch.zeros(1, 3, place.size, place.size), names, batch_axis=False)
    second.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(first, second)
    parameters = sum(p.numel() for p in model.parameters())
    place.write_card("detector", {"parameters": parameters, "steps": run.steps, "batch": plan.batch})
    return True


if __name__ == "__main__":
    single_run(__doc__, PLANS, train)
