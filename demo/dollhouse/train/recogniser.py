"""Train a face recogniser: `python -m demo.dollhouse.train.recogniser --which feed` (or `judge`).

Two of them, which share neither weights, seeds, data nor architecture: one feeds the ID adapter, the other judges
similarity. ArcFace's form: aligned 112 x 112 RGB, (x - 127.5) / 127.5, to a vector of 512. The judge is trained after
the autoencoder and has seen heads that went through it, since it judges generated pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.dollhouse.align import aligned_crop
from demo.dollhouse.train.common import Run, drawn_pictures, to_tensor, write_card
from demo.dollhouse.train.seeing import (
    PACK_OF,
    Residual,
    cached,
    calibrate_norms,
    conv_norm,
    decoded_pictures,
    draw_portraits,
    export_onnx,
    held_out_people,
    identity_figures,
    loose_crop,
    similar_identity,
)
from demo.dollhouse.world import EYE_COLOURS, HAIR_COLOURS, HAIR_STYLES, Identity, random_identity

EMBEDDING = 512
SEED = {"feed": 11, "judge": 29}
VIEWS = ("close-up", "half", "full", "full")
TEMPERATURE, MARGIN = 0.1, 0.15
DECODED, DECODED_SHARE = 640, 0.25
CHOICES = {"hair_colour": tuple(HAIR_COLOURS), "hair_style": HAIR_STYLES, "eyes": tuple(EYE_COLOURS)}
FLAGS = ("glasses", "beard", "gender")
AMOUNTS = ("skin", "width")


class FeedNet(nn.Module):
    """Patches of 8 x 8, plain residual blocks, a learned weight per place."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(3, 32, 8, 4), nn.ReLU(), conv_norm(32, 56, 3, 2), nn.ReLU(), Residual(56),
            conv_norm(56, 112, 3, 2), nn.ReLU(), Residual(112, 96), nn.Conv2d(112, 112, 7, groups=112),
        )  # fmt: skip
        self.out = nn.Linear(112, EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x).flatten(1))


class JudgeNet(nn.Module):
    """Halves the crop first, separable blocks, means over the rows of a 7 x 7 map."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.AvgPool2d(2), conv_norm(3, 24, 4, 2), nn.ReLU(), Residual(24, 32),
            conv_norm(24, 64, 3, 2), nn.ReLU(), conv_norm(64, 64, 5, groups=64), conv_norm(64, 128, 1), nn.ReLU(),
            conv_norm(128, 128, 3, 2, groups=128), conv_norm(128, 192, 1), nn.ReLU(),
            conv_norm(192, 192, 5, groups=192), conv_norm(192, 224, 1), nn.ReLU(),
        )  # fmt: skip
        self.rows = nn.Sequential(nn.Conv2d(224, 24, 1), nn.ReLU(), nn.AvgPool2d((1, 7)))
        self.out = nn.Linear(224 + 24 * 7, EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.out(torch.cat([F.adaptive_avg_pool2d(x, 1).flatten(1), self.rows(x).flatten(1)], 1))


class Trained(nn.Module):
    """The recogniser, and read-outs of the attributes that keep its unit vector legible (dropped at export)."""

    def __init__(self, which: str):
        super().__init__()
        self.net = FeedNet() if which == "feed" else JudgeNet()
        self.reads = nn.Linear(EMBEDDING, sum(map(len, CHOICES.values())) + len(FLAGS) + len(AMOUNTS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        unit = F.normalize(self.net(x), dim=1)
        return unit, self.reads(8 * unit)


def attribute_targets(people: list[Identity]) -> dict[str, Tensor]:
    targets = {k: torch.tensor([v.index(getattr(p, k)) for p in people]) for k, v in CHOICES.items()}
    targets["flags"] = torch.tensor([[p.glasses, p.beard, p.gender == "woman"] for p in people]).float()
    targets["amounts"] = torch.tensor([[p.skin * 2 - 1, (p.width - 0.88) / 0.12] for p in people])
    return targets


def attribute_loss(reads: Tensor, targets: dict[str, Tensor]) -> Tensor:
    parts = reads.split([*map(len, CHOICES.values()), len(FLAGS), len(AMOUNTS)], 1)
    loss = sum(F.cross_entropy(part, targets[k]) for part, k in zip(parts, CHOICES, strict=False))
    loss = loss + 2 * F.binary_cross_entropy_with_logits(parts[-2], targets["flags"])
    return loss + 2 * F.smooth_l1_loss(parts[-1], targets["amounts"])


def contrast_loss(unit: Tensor) -> Tensor:
    """Rows k and k + n/2 are one person: both ways softmax over the batch, the right cosine less a margin."""
    n = len(unit)
    partner = torch.arange(n).roll(n // 2)
    cosines = unit @ unit.T - MARGIN * F.one_hot(partner, n)
    return F.cross_entropy((cosines / TEMPERATURE).masked_fill(torch.eye(n, dtype=torch.bool), -1e4), partner)


@dataclass(frozen=True)
class Pool:
    """Persons, their pictures (n, views, 128, 128, 3) and landmarks (n, views, 5, 2)."""

    people: list[Identity]
    images: np.ndarray
    landmarks: np.ndarray

    def crop(self, person: int, view: int, rng: np.random.Generator) -> np.ndarray:
        return loose_crop(self.images[person, view], self.landmarks[person, view], rng)


def training_pool(which: str, families: int) -> Pool:
    """Pairs of persons (2k, 2k + 1) who differ in one attribute, in every view."""

    def make() -> tuple:
        rng = np.random.default_rng(SEED[which])
        people = []
        for _ in range(families):
            who = random_identity(rng)
            people += [who, similar_identity(who, rng)]
        return people, *draw_portraits(people, VIEWS, rng)

    return Pool(*cached(f"portraits_{which}_{families}", make))


def decoded_pool() -> Pool:
    """Persons whose first view went through the autoencoder; the others are portraits of them as drawn."""
    _, truths = drawn_pictures(20000, seed=1)
    flat = [i for i in range(DECODED) if truths[i][0].style == "flat"]
    people = [truths[i][0].identity for i in flat]
    images, landmarks = cached(
        f"portraits_decoded_{DECODED}",
        lambda: draw_portraits(people, ("close-up", "half"), np.random.default_rng(31)),
    )
    decoded = decoded_pictures(20000, 1, DECODED)[flat]
    first = np.stack([truths[i][1].landmarks for i in flat])
    return Pool(
        people,
        np.concatenate([decoded[:, None], images], 1),
        np.concatenate([first[:, None], landmarks], 1),
    )


@torch.no_grad()
def held_out_figures(net: nn.Module) -> dict[str, float]:
    """On unseen persons, aligned by the true landmarks."""
    _, images, truths = held_out_people()
    flat = [
        aligned_crop(images[i, j, k], t.landmarks)
        for i, p in enumerate(truths)
        for j, s in enumerate(p)
        for k, t in enumerate(s)
    ]
    vectors = torch.cat([net(to_tensor(np.stack(flat[i : i + 60]))) for i in range(0, len(flat), 60)])
    return identity_figures(vectors.numpy().reshape(*images.shape[:3], EMBEDDING))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--which", choices=tuple(SEED), required=True)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--families", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=96, help="pictures per step: two of each person")
    args = parser.parse_args()
    torch.manual_seed(SEED[args.which])
    pool = training_pool(args.which, args.families)
    decoded = decoded_pool() if args.which == "judge" else None
    model = Trained(args.which).to(memory_format=torch.channels_last)
    run = Run(f"recogniser_{args.which}", model, args.steps, lr=3e-3, ema=0.98, seed=SEED[args.which])
    of_decoded = int(args.batch * DECODED_SHARE / 2) if decoded else 0
    of_families = (args.batch // 2 - of_decoded) // 2

    def batch(rng: np.random.Generator) -> tuple[Tensor, list[Identity]]:
        chosen = rng.choice(args.families, of_families, replace=False)
        who = [(pool, i) for i in np.concatenate([2 * chosen, 2 * chosen + 1])]
        views = [rng.permutation(len(VIEWS))[:2] for _ in who]
        if decoded:
            others = rng.choice(len(decoded.people), of_decoded, replace=False)
            who += [(decoded, i) for i in others]
            views += [(0, int(rng.integers(1, 3))) for _ in others]
        crops = [p.crop(i, v[side], rng) for side in range(2) for (p, i), v in zip(who, views, strict=True)]
        x = to_tensor(np.stack(crops)).contiguous(memory_format=torch.channels_last)
        return x, [p.people[i] for p, i in who] * 2

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        x, faces = batch(rng)
        unit, reads = model(x)
        return contrast_loss(unit) + 0.4 * attribute_loss(reads, attribute_targets(faces))

    run.train(loss_of, log_every=20)
    run.use_ema()
    rng = np.random.default_rng(5)
    calibrate_norms(model, [batch(rng)[0] for _ in range(12)])
    path = PACK_OF[args.which] / "rec.onnx"
    export_onnx(model.net, path, torch.zeros(1, 3, 112, 112), ["embedding"], batch_axis=True)
    figures = {"parameters": sum(p.numel() for p in model.net.parameters()), "steps": args.steps}
    write_card(f"recogniser_{args.which}", {**figures, **held_out_figures(model.net)})


if __name__ == "__main__":
    main()
