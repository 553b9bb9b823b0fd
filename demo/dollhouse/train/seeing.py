"""What the training of the seeing models (recognisers, detector, evaluator) shares: heads, rough handling, export."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from torch import Tensor, nn

from demo.dollhouse.train.common import load_vae, to_float, to_images
from demo.dollhouse.train.drawing import kept
from demo.dollhouse.train.place import Place
from demo.dollhouse.world import EYE_COLOURS, HAIR_COLOURS, HAIR_STYLES, SHOTS, Identity
from lib_beyondfacial.faces.alignment import CROP, TEMPLATE, similarity_transform


def similar_identity(person: Identity, rng: np.random.Generator) -> Identity:
    """Somebody else who differs in one attribute: the hard pairs."""

    def other(options: object, now: str) -> str:
        return str(rng.choice([v for v in options if v != now]))

    styles = HAIR_STYLES if person.gender == "man" else tuple(s for s in HAIR_STYLES if s != "bald")
    changes = {
        "skin": lambda: person.skin + (0.35 if person.skin < 0.5 else -0.35),
        "hair_colour": lambda: other(HAIR_COLOURS, person.hair_colour),
        "hair_style": lambda: other(styles, person.hair_style),
        "eyes": lambda: other(EYE_COLOURS, person.eyes),
        "width": lambda: person.width + (0.12 if person.width < 0.88 else -0.12),
        "glasses": lambda: not person.glasses,
        "beard": lambda: not person.beard,
        "gender": lambda: "woman" if person.gender == "man" else "man",
    }
    if person.gender == "woman":
        del changes["beard"]
    if person.beard or person.hair_style == "bald":
        del changes["gender"]
    name = str(rng.choice(list(changes)))
    return replace(person, **{name: changes[name]()})


@torch.no_grad()
def through_vae(place: Place, images: np.ndarray) -> np.ndarray:
    """(n, size, size, 3) uint8 -> the same after the trained autoencoder's round trip, as all generated pictures."""
    model, out = load_vae(place), []
    for i in range(0, len(images), 16):
        x = to_float(torch.from_numpy(np.ascontiguousarray(images[i : i + 16])).to(place.device))
        out.append(to_images(model.decode(model.encode(x)[0])))
    return np.concatenate(out)


def decoded(place: Place, name: str, images: np.ndarray) -> np.ndarray:
    """What the autoencoder makes of the pictures, kept under the autoencoder's hash."""
    return kept(place, f"decoded_{name}_{len(images)}_{place.vae_hash}", lambda: through_vae(place, images))


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


def shrunk(image: np.ndarray, landmarks: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture and its landmarks made smaller, so that its head's radius becomes `radius` px; never larger."""
    scale = radius * 0.56 / float(np.linalg.norm(landmarks[:2].mean(0) - landmarks[3:].mean(0)))
    if scale >= 0.95:
        return image, landmarks
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    out = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return out, landmarks * (np.array(size, np.float32) / image.shape[1::-1])


def loose_crop(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, small: float = 0) -> np.ndarray:
    """An aligned crop of a roughened picture whose landmarks are a little wrong, as a detector's are.

    With `small`, a full shot's head radius in px, one crop in three has first been shrunk to about that: the heads
    that matter most are the ones that real pictures blur most.
    """
    if small and rng.random() < 1 / 3:
        image, landmarks = shrunk(image, landmarks, small * rng.uniform(0.85, 1.3))
    head = np.linalg.norm(landmarks[:2].mean(0) - landmarks[3:].mean(0)) / 0.56
    x, y = landmarks[2]
    x0, y0 = (max(0, int(v - 1.7 * head)) for v in (x, y))
    part = roughen(image[y0 : int(y + 1.7 * head), x0 : int(x + 1.7 * head)], rng, 0.6 + min(head, 40) / 20)
    wrong = landmarks - (x0, y0) + rng.normal(0, 0.04 * head, (5, 2)) + rng.normal(0, 0.03 * head, 2)
    matrix = similarity_transform(wrong, TEMPLATE)
    return cv2.warpAffine(part, matrix, (CROP, CROP), borderValue=0.0)


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


@torch.no_grad()
def unfold_norms(model: nn.Module, batch: Tensor) -> None:
    """Batch norms that came back out of an exported graph as a shift alone (`warm.read_folded`) get the statistics of
    what goes into them, and weights that undo these: the model does the same, and training mode no longer breaks it.
    Norms that have statistics are left alone."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if any((m.running_mean != 0).any() for m in norms):
        return
    inputs: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def measure(norm: nn.Module, args: tuple[Tensor]) -> None:
        inputs[norm] = args[0].mean((0, 2, 3)), args[0].var((0, 2, 3))

    hooks = [m.register_forward_pre_hook(measure) for m in norms]
    model.eval()(batch)
    for hook in hooks:
        hook.remove()
    for m, (mean, var) in inputs.items():
        m.running_mean.copy_(mean)
        m.running_var.copy_(var)
        m.weight.copy_((var + m.eps).sqrt())
        m.bias.add_(mean)
    model.train()


def export_onnx(model: nn.Module, path: Path, example: Tensor, outputs: list[str], batch_axis: bool) -> None:
    """Write the model in the form that insightface's router reads: opset 13, ir_version 8, declared ranks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model, example = model.cpu(), example.cpu()
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


def known_mean(values: np.ndarray, digits: int = 3) -> float:
    """The mean of what is not NaN; NaN where nothing is known."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), digits) if known.size else float("nan")


def identity_figures(embeddings: np.ndarray) -> dict[str, float]:
    """Embeddings (n, 3 shots, 2, 512), NaN where no face was found (a wrong answer) -> accuracy, mean cosines."""
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    rng = np.random.default_rng(0)
    figures = {}

    def compare(name: str, a: np.ndarray, b: np.ndarray) -> None:
        orders = [
            np.roll(np.arange(len(a)), int(k))
            for k in rng.choice(np.arange(1, len(a)), min(8, len(a) - 1), replace=False)
        ]
        same, different = (a * b).sum(-1), np.concatenate([(a * b[o]).sum(-1) for o in orders])
        figures[f"same_different_{name}"] = round(
            same_person_accuracy(np.nan_to_num(same, nan=-1.0), np.nan_to_num(different, nan=1.0)), 4
        )
        figures[f"cosine_same_{name}"] = known_mean(same)
        figures[f"cosine_different_{name}"] = known_mean(different)

    for j, shot in enumerate(SHOTS):
        compare(shot, unit[:, j, 0], unit[:, j, 1])
    compare("full_to_close-up", unit[:, SHOTS.index("full"), 0], unit[:, SHOTS.index("close-up"), 0])
    return figures
