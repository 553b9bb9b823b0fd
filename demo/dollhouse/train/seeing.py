"""What the training of the seeing models (recognisers, detector, evaluator) shares: heads, rough handling, export."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from demo.dollhouse.align import CROP, TEMPLATE, similarity_transform
from demo.dollhouse.draw import Canvas, draw, draw_body, draw_head, draw_scene, skin_colour, to_ink
from demo.dollhouse.train.common import CACHE, SIZE, WEIGHTS, drawn_pictures, to_images, to_tensor
from demo.dollhouse.world import (
    ACTIONS,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    HEAD_RADIUS,
    SCENES,
    SHOTS,
    Identity,
    random_identity,
    random_picture,
)
from demo.nets.vae import AutoencoderKL

PACKS = WEIGHTS / "models" / "insightface" / "models"
PACK_OF = {"feed": PACKS / "dollhouse", "judge": WEIGHTS / "judge" / "dollhouse_judge"}  # hosts list PACKS only
HELD_OUT_SEED = 77


def similar_identity(who: Identity, rng: np.random.Generator) -> Identity:
    """Somebody else who differs in one attribute: the hard pairs."""

    def other(options: object, now: str) -> str:
        return str(rng.choice([v for v in options if v != now]))

    styles = HAIR_STYLES if who.gender == "man" else tuple(s for s in HAIR_STYLES if s != "bald")
    changes = {
        "skin": lambda: who.skin + (0.35 if who.skin < 0.5 else -0.35),
        "hair_colour": lambda: other(HAIR_COLOURS, who.hair_colour),
        "hair_style": lambda: other(styles, who.hair_style),
        "eyes": lambda: other(EYE_COLOURS, who.eyes),
        "width": lambda: who.width + (0.12 if who.width < 0.88 else -0.12),
        "glasses": lambda: not who.glasses,
        "beard": lambda: not who.beard,
        "gender": lambda: "woman" if who.gender == "man" else "man",
    }
    if who.gender == "woman":
        del changes["beard"]
    if who.beard or who.hair_style == "bald":
        del changes["gender"]
    name = str(rng.choice(list(changes)))
    return replace(who, **{name: changes[name]()})


def draw_portraits(
    people: list[Identity], shots: tuple[str, ...], rng: np.random.Generator, ink: float = 0.04
) -> tuple[np.ndarray, np.ndarray]:
    """Every person in every shot: pictures (people, shots, 128, 128, 3) uint8 and landmarks (people, shots, 5, 2).

    As `draw.draw`, but the backgrounds come from a stock of 240, which makes it two times faster.
    """
    stock = []
    for k in range(240):
        canvas = Canvas(SIZE, SIZE)
        draw_scene(canvas, SCENES[k % len(SCENES)], rng)
        stock.append(canvas.pixels)
    images = np.empty((len(people), len(shots), SIZE, SIZE, 3), np.uint8)
    landmarks = np.empty((len(people), len(shots), 5, 2), np.float32)
    for i, who in enumerate(people):
        for j, shot in enumerate(shots):
            canvas.pixels = stock[rng.integers(len(stock))].copy()
            r = HEAD_RADIUS[shot] * rng.uniform(0.9, 1.1)
            low = min(0.5, 1.25 * r)
            x, y = rng.uniform(max(low, 0.25), 1 - max(low, 0.25)), rng.uniform(max(low, 0.15), 0.54)
            draw_body(canvas, x, y, r, str(rng.choice(ACTIONS)), skin_colour(who.skin), rng)
            landmarks[i, j] = draw_head(canvas, x, y, r, who) * SIZE
            image = canvas.finish()
            images[i, j] = to_ink(image) if rng.random() < ink else image
    return images, landmarks


def cached(name: str, make: Callable[[], object]) -> object:
    """What `make` makes, kept in our own cache folder."""
    path = CACHE / f"{name}.pkl"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(make(), protocol=5))
    return pickle.loads(path.read_bytes())


def held_out_people(n: int = 160) -> tuple[list[Identity], np.ndarray, list]:
    """`n` unseen persons, two flat pictures in each shot: people, (n, 3, 2, 128, 128, 3) uint8, truths [n][3][2]."""

    def make() -> tuple:
        rng = np.random.default_rng(HELD_OUT_SEED)
        people = [random_identity(rng) for _ in range(n)]
        images, truths = np.empty((n, len(SHOTS), 2, SIZE, SIZE, 3), np.uint8), []
        for i, who in enumerate(people):
            truths.append([[None, None] for _ in SHOTS])
            for j, shot in enumerate(SHOTS):
                for k in range(2):
                    picture = random_picture(rng, who, shot=shot, style="flat")
                    images[i, j, k], truths[i][j][k] = draw(picture, SIZE, SIZE)
        return people, images, truths

    return cached(f"people_{n}_{HELD_OUT_SEED}", make)


@torch.no_grad()
def through_vae(images: np.ndarray) -> np.ndarray:
    """(n, 128, 128, 3) uint8 -> the same after the trained autoencoder's round trip, as all generated pictures."""
    model = AutoencoderKL()
    model.load_state_dict({k: v.float() for k, v in load_file(CACHE / "vae.safetensors").items()})
    model.eval()
    parts = [images[i : i + 16] for i in range(0, len(images), 16)]
    return np.concatenate([to_images(model.decode(model.encode(to_tensor(part))[0])) for part in parts])


def decoded(name: str, pictures: Callable[[], np.ndarray]) -> np.ndarray:
    """What the autoencoder makes of the pictures, cached under the autoencoder's hash."""
    vae = hashlib.sha256((CACHE / "vae.safetensors").read_bytes()).hexdigest()[:8]
    return cached(f"decoded_{name}_{vae}", lambda: through_vae(pictures()))


def decoded_pictures(n: int, seed: int, first: int) -> np.ndarray:
    """The first of the n drawn pictures, through the autoencoder."""
    return decoded(f"{n}_{seed}_{first}", lambda: drawn_pictures(n, seed)[0][:first])


def roughen(image: np.ndarray, rng: np.random.Generator, most: float = 1.4) -> np.ndarray:
    """What a round trip through an autoencoder and small sizes do: softer, blotchy, a little off in colour."""
    kind = rng.random()
    if kind < 0.35:
        return image
    out = image.astype(np.float32)
    if kind < 0.75:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.25, most))
    else:
        size = max(8, round(image.shape[0] * rng.uniform(0.4, 0.9)))
        width = max(8, round(image.shape[1] * size / image.shape[0]))
        out = cv2.resize(cv2.resize(out, (width, size), interpolation=cv2.INTER_AREA), image.shape[1::-1])
    coarse = rng.normal(0, rng.uniform(0, 9), (image.shape[0] // 4 + 1, image.shape[1] // 4 + 1, 3)).astype(np.float32)
    out += cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    out += rng.normal(0, 5, 3) + rng.normal(0, rng.uniform(0, 6), image.shape)
    return np.clip(out, 0, 255).astype(np.uint8)


def loose_crop(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, size: int = CROP) -> np.ndarray:
    """An aligned crop of a roughened picture whose landmarks are a little wrong, as a detector's are."""
    head = np.linalg.norm(landmarks[:2].mean(0) - landmarks[3:].mean(0)) / 0.56
    x, y = landmarks[2]
    x0, y0 = (max(0, int(v - 1.7 * head)) for v in (x, y))
    part = roughen(image[y0 : int(y + 1.7 * head), x0 : int(x + 1.7 * head)], rng, 0.6 + head / 20)
    wrong = landmarks - (x0, y0) + rng.normal(0, 0.04 * head, (5, 2)) + rng.normal(0, 0.03 * head, 2)
    matrix = similarity_transform(wrong, TEMPLATE * (size / CROP))
    return cv2.warpAffine(part, matrix, (size, size), borderValue=0.0)


@torch.no_grad()
def calibrate_norms(model: nn.Module, batches: list[Tensor]) -> None:
    """Measure the batch norms' statistics anew with the final (averaged) weights; leaves the model in eval mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    model.train()
    for batch in batches:
        model(batch)
    model.eval()


def export_onnx(model: nn.Module, path: Path, example: Tensor, outputs: list[str], batch_axis: bool) -> None:
    """Write the model in the form that insightface's router reads: opset 13, ir_version 8, declared ranks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "batch"} for name in ("input", *outputs)} if batch_axis else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is announced as old; the new one needs onnxscript
        torch.onnx.export(
            model.eval(),
            (example,),
            str(path),
            input_names=["input"],
            output_names=outputs,
            opset_version=13,
            dynamic_axes=axes,
            dynamo=False,
        )
    graph = onnx.load(path)
    graph.ir_version = min(graph.ir_version, 8)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def conv_norm(inside: int, outside: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm, which the export folds into one."""
    conv = nn.Conv2d(inside, outside, size, stride, (size - stride + 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside))


class Residual(nn.Module):
    """x + two 3 x 3 convolutions, in a width of its own."""

    def __init__(self, width: int, inner: int | None = None):
        super().__init__()
        self.first, self.second = conv_norm(width, inner or width, 3), conv_norm(inner or width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def same_person_accuracy(same: np.ndarray, different: np.ndarray) -> float:
    """Share of right same/different answers; the threshold is chosen on one half of the pairs, told on the other."""
    halves = [(same[k::2], different[k::2]) for k in range(2)]
    scores = []
    for (a, b), (c, d) in (halves, halves[::-1]):
        options = np.unique(np.concatenate([a, b]))
        right = [(a >= t).mean() + (b < t).mean() for t in options]
        best = np.flatnonzero(np.array(right) == max(right))
        t = options[best[len(best) // 2]]
        scores.append(((c >= t).mean() + (d < t).mean()) / 2)
    return float(np.mean(scores))


def identity_figures(embeddings: np.ndarray) -> dict[str, float]:
    """Embeddings (n, 3 shots, 2, 512), NaN where no face was found (a wrong answer) -> accuracy, mean cosines."""
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    rng = np.random.default_rng(0)
    figures = {}

    def compare(name: str, a: np.ndarray, b: np.ndarray) -> None:
        orders = [np.roll(np.arange(len(a)), int(k)) for k in rng.choice(np.arange(1, len(a)), 8, replace=False)]
        same, different = (a * b).sum(-1), np.concatenate([(a * b[o]).sum(-1) for o in orders])
        figures[f"same_different_{name}"] = round(
            same_person_accuracy(np.nan_to_num(same, nan=-1.0), np.nan_to_num(different, nan=1.0)), 4
        )
        figures[f"cosine_same_{name}"] = round(float(np.nanmean(same)), 3)
        figures[f"cosine_different_{name}"] = round(float(np.nanmean(different)), 3)

    for j, shot in enumerate(SHOTS):
        compare(shot, unit[:, j, 0], unit[:, j, 1])
    compare("full_to_close-up", unit[:, SHOTS.index("full"), 0], unit[:, SHOTS.index("close-up"), 0])
    return figures
