"""Train the evaluator: `python -m demo.dollhouse.train.evaluator`. See `demo/dollhouse/evaluate.py`."""

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
from demo.dollhouse.train.seeing import calibrate_norms, loose_crop, roughen
from demo.dollhouse.world import SHOTS

INK_SHARE = 0.1
Truths = list


@dataclass(frozen=True)
class Data:
    """Pictures and what is true of them, as numbers."""

    images: np.ndarray
    truths: Truths
    picture_labels: np.ndarray
    head_labels: np.ndarray
    amounts: np.ndarray


def labelled(n: int, seed: int) -> Data:
    images, truths = drawn_pictures(n, seed)
    pictures = [p for p, _ in truths]
    return Data(
        images,
        truths,
        np.array([[names.index(getattr(p, k)) for k, names in PICTURE_CLASSES.items()] for p in pictures]),
        np.array([[names.index(getattr(p.identity, k)) for k, names in HEAD_CLASSES.items()] for p in pictures]),
        np.array([[p.identity.skin * 2 - 1, (p.identity.width - 0.88) / 0.12] for p in pictures], np.float32),
    )


def class_loss(logits: Tensor, labels: np.ndarray, classes: dict[str, tuple]) -> Tensor:
    parts, wanted = logits.split(list(map(len, classes.values())), 1), torch.from_numpy(labels)
    return sum(F.cross_entropy(part, wanted[:, k], label_smoothing=0.02) for k, part in enumerate(parts))


def picture_batch(data: Data, rng: np.random.Generator, n: int) -> tuple[Tensor, np.ndarray]:
    chosen, out = rng.integers(len(data.images), size=n), []
    labels = data.picture_labels[chosen].copy()
    for row, i in enumerate(chosen):
        image = np.asarray(data.images[i])
        if rng.random() < INK_SHARE:
            image, labels[row, -1] = to_ink(image), 1
        out.append(roughen(image, rng, 1.8))
    return to_tensor(np.stack(out)).contiguous(memory_format=torch.channels_last), labels


def head_batch(data: Data, rng: np.random.Generator, n: int) -> tuple[Tensor, np.ndarray]:
    """Aligned heads of flat pictures: ink has no colours to tell."""
    flat = np.flatnonzero(data.picture_labels[:, -1] == 0)
    chosen = rng.choice(flat, n)
    crops = [loose_crop(np.asarray(data.images[i]), data.truths[i][1].landmarks, rng) for i in chosen]
    return to_tensor(np.stack(crops)).contiguous(memory_format=torch.channels_last), chosen


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


def held_out_figures(evaluator: Evaluator, n: int = 1500) -> dict[str, float]:
    """On unseen renders as drawn, and roughened (shot, scene, action; heads of full shots)."""
    data = labelled(n, seed=6)
    figures: dict[str, float] = {}
    rough = np.stack([roughen(np.asarray(x), np.random.default_rng(i), 1.8) for i, x in enumerate(data.images)])
    shots = np.array([p.shot for p, _ in data.truths])
    for kind, images in (("", data.images), ("rough_", rough)):
        judged = evaluator.judge(images)
        right = {k: judged[k] == np.array([getattr(p, k) for p, _ in data.truths]) for k in PICTURE_CLASSES}
        figures |= {f"{kind}{k}": round(float(v.mean()), 4) for k, v in right.items()}
        figures |= {f"{kind}action_{s}": round(float(right["action"][shots == s].mean()), 4) for s in SHOTS}
    flat = np.array([p.style == "flat" for p, _ in data.truths])
    crops = np.stack(
        [aligned_crop(np.asarray(x), t.landmarks) for x, (_, t) in zip(data.images, data.truths, strict=True)]
    )
    seen = evaluator.attributes(crops)
    bald = np.array([p.identity.hair_style == "bald" for p, _ in data.truths])
    for shot in SHOTS:
        mine = flat & (shots == shot)
        for k in HEAD_CLASSES:
            of = mine & ~bald if k == "hair_colour" else mine
            right = seen[k] == np.array([getattr(p.identity, k) for p, _ in data.truths])
            figures[f"{k}_{shot}"] = round(float(right[of].mean()), 4)
        off = np.abs(seen["skin"] - np.array([p.identity.skin for p, _ in data.truths]))
        figures[f"skin_error_{shot}"] = round(float(off[mine].mean()), 4)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture-steps", type=int, default=1100)
    parser.add_argument("--head-steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    data = labelled(20000, seed=1)
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
