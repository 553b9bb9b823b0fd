"""Train the evaluator: `python -m demo.dollhouse.train.evaluator`, when the autoencoder is there (see `evaluate.py`).

A quarter of what it learns from are renders that went through the autoencoder, as every generated picture does.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from demo.dollhouse.align import aligned_crop
from demo.dollhouse.draw import to_ink
from demo.dollhouse.evaluate import HEAD_CLASSES, PICTURE_CLASSES, WEIGHTS, Evaluator, HeadNet, PictureNet
from demo.dollhouse.train.common import Run, drawn_pictures, to_tensor, write_card
from demo.dollhouse.train.seeing import calibrate_norms, decoded_pictures, loose_crop, roughen
from demo.dollhouse.world import SHOTS

INK_SHARE, DECODED_SHARE = 0.1, 0.25
DECODED = 640
Truths = list


@dataclass(frozen=True)
class Data:
    """Pictures and what is true of them, as numbers."""

    images: np.ndarray
    truths: Truths
    picture_labels: np.ndarray
    head_labels: np.ndarray
    amounts: np.ndarray
    decoded: np.ndarray

    def pick(self, rng: np.random.Generator) -> tuple[int, np.ndarray, bool]:
        """Index, picture and whether the picture has been through the autoencoder."""
        if rng.random() < DECODED_SHARE:
            i = int(rng.integers(len(self.decoded)))
            return i, self.decoded[i], True
        i = int(rng.integers(len(self.images)))
        return i, np.asarray(self.images[i]), False


def labelled(n: int, seed: int, decoded: int) -> Data:
    images, truths = drawn_pictures(n, seed)
    pictures = [p for p, _ in truths]
    return Data(
        images,
        truths,
        np.array([[names.index(getattr(p, k)) for k, names in PICTURE_CLASSES.items()] for p in pictures]),
        np.array([[names.index(getattr(p.identity, k)) for k, names in HEAD_CLASSES.items()] for p in pictures]),
        np.array([[p.identity.skin * 2 - 1, (p.identity.width - 0.88) / 0.12] for p in pictures], np.float32),
        decoded_pictures(n, seed, decoded),
    )


def class_loss(logits: Tensor, labels: np.ndarray, classes: dict[str, tuple]) -> Tensor:
    parts, wanted = logits.split(list(map(len, classes.values())), 1), torch.from_numpy(labels)
    return sum(F.cross_entropy(part, wanted[:, k], label_smoothing=0.02) for k, part in enumerate(parts))


def picture_batch(data: Data, rng: np.random.Generator, n: int) -> tuple[Tensor, np.ndarray]:
    out, labels = [], []
    for _ in range(n):
        i, image, decoded = data.pick(rng)
        label = data.picture_labels[i].copy()
        if not decoded:
            if rng.random() < INK_SHARE:
                image, label[-1] = to_ink(image), 1
            image = roughen(image, rng, 1.8)
        out.append(image)
        labels.append(label)
    return to_tensor(np.stack(out)).contiguous(memory_format=torch.channels_last), np.array(labels)


def head_batch(data: Data, rng: np.random.Generator, n: int) -> tuple[Tensor, list[int]]:
    """Aligned heads of flat pictures: ink has no colours to tell."""
    out, chosen = [], []
    while len(out) < n:
        i, image, _ = data.pick(rng)
        if data.picture_labels[i, -1] == 0:
            out.append(loose_crop(image, data.truths[i][1].landmarks, rng))
            chosen.append(i)
    return to_tensor(np.stack(out)).contiguous(memory_format=torch.channels_last), chosen


def finish(run: Run, model: nn.Module, batches: list[Tensor]) -> None:
    run.use_ema()
    calibrate_norms(model, batches)


def train_picture(data: Data, steps: int, batch: int) -> PictureNet:
    torch.manual_seed(41)
    model = PictureNet().to(memory_format=torch.channels_last)
    run = Run("evaluator_picture", model, steps, lr=4e-3, ema=0.98, seed=41)

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        x, labels = picture_batch(data, rng, batch)
        return class_loss(model(x), labels, PICTURE_CLASSES)

    run.train(loss_of)
    rng = np.random.default_rng(5)
    finish(run, model, [picture_batch(data, rng, batch)[0] for _ in range(20)])
    return model


def train_head(data: Data, steps: int, batch: int) -> HeadNet:
    torch.manual_seed(43)
    model = HeadNet().to(memory_format=torch.channels_last)
    run = Run("evaluator_head", model, steps, lr=4e-3, ema=0.98, seed=43)

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        x, chosen = head_batch(data, rng, batch)
        logits = model(x)
        amounts = F.smooth_l1_loss(logits[:, -2:], torch.from_numpy(data.amounts[chosen]))
        return class_loss(logits[:, :-2], data.head_labels[chosen], HEAD_CLASSES) + 3 * amounts

    run.train(loss_of)
    rng = np.random.default_rng(5)
    finish(run, model, [head_batch(data, rng, batch)[0] for _ in range(20)])
    return model


def picture_figures(evaluator: Evaluator, images: np.ndarray, truths: Truths) -> dict[str, float]:
    judged, figures = evaluator.judge(images), {}
    shots = np.array([p.shot for p, _ in truths])
    for k in PICTURE_CLASSES:
        right = judged[k] == np.array([getattr(p, k) for p, _ in truths])
        figures[k] = round(float(right.mean()), 4)
        if k == "action":
            figures |= {f"action_{s}": round(float(right[shots == s].mean()), 4) for s in SHOTS}
    return figures


def head_figures(evaluator: Evaluator, images: np.ndarray, truths: Truths) -> dict[str, float]:
    """Attributes on flat pictures, aligned by the true landmarks; hair colour of those who have hair."""
    figures = {}
    crops = np.stack([aligned_crop(np.asarray(x), t.landmarks) for x, (_, t) in zip(images, truths, strict=True)])
    seen = evaluator.attributes(crops)
    for shot in SHOTS:
        mine = np.array([p.style == "flat" and p.shot == shot for p, _ in truths])
        for k in HEAD_CLASSES:
            of = mine & np.array([k != "hair_colour" or p.identity.hair_style != "bald" for p, _ in truths])
            right = seen[k] == np.array([getattr(p.identity, k) for p, _ in truths])
            figures[f"{k}_{shot}"] = round(float(right[of].mean()), 4)
        off = np.abs(seen["skin"] - np.array([p.identity.skin for p, _ in truths]))
        figures[f"skin_error_{shot}"] = round(float(off[mine].mean()), 4)
    return figures


def held_out_figures(evaluator: Evaluator, n: int = 1500, decoded: int = 320) -> dict[str, dict[str, float]]:
    """On unseen renders as drawn, and on the first of them through the autoencoder."""
    images, truths = drawn_pictures(n, seed=6)
    back = decoded_pictures(n, 6, decoded)
    return {
        "renders": picture_figures(evaluator, images, truths) | head_figures(evaluator, images, truths),
        "decoded": picture_figures(evaluator, back, truths[:decoded])
        | head_figures(evaluator, back, truths[:decoded]),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture-steps", type=int, default=800)
    parser.add_argument("--head-steps", type=int, default=380)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    data = labelled(20000, seed=1, decoded=DECODED)
    picture = train_picture(data, args.picture_steps, args.batch)
    head = train_head(data, args.head_steps, args.batch)
    tensors = {
        f"{name}.{k}": v for name, net in (("picture", picture), ("head", head)) for k, v in net.state_dict().items()
    }
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in tensors.items()}
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, WEIGHTS)
    evaluator = Evaluator.load()
    count = sum(p.numel() for net in (evaluator.picture, evaluator.head) for p in net.parameters())
    write_card(
        "evaluator",
        {"parameters": count, "steps": args.picture_steps + args.head_steps, **held_out_figures(evaluator)},
    )


if __name__ == "__main__":
    main()
