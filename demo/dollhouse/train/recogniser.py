"""Train a face recogniser: `python -m demo.dollhouse.train.recogniser --which feed` (`feed_soft`, `judge`).

Two of them, which share neither weights, seeds, data nor architecture: one feeds the ID adapter, the other judges
similarity. ArcFace's form: aligned 112 x 112 RGB, (x - 127.5) / 127.5, to a vector of 512. The judge is trained after
the autoencoder and has seen heads that went through it, since it judges generated pictures; the feeding one is trained
before it (the autoencoder learns with its help), and goes on as `feed_soft` with such heads among the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo.dollhouse.train.common import to_float, to_tensor
from demo.dollhouse.train.drawing import drawn_portraits, held_out_people, training_pictures
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, single_run
from demo.dollhouse.train.seeing import (
    Residual,
    calibrate_norms,
    conv_norm,
    decoded,
    export_onnx,
    identity_figures,
    loose_crop,
    similar_identity,
    unfold_norms,
)
from demo.dollhouse.world import EYE_COLOURS, HAIR_COLOURS, HAIR_STYLES, SHOTS, Identity, random_identity
from lib_beyondfacial.common import EMBEDDING_SIZE
from lib_beyondfacial.faces.alignment import align_face

SEED = {"feed": 11, "feed_soft": 13, "judge": 29}
WHICH = tuple(SEED)
PLANS = {
    "feed": {"cpu": Plan(1200, 96, 3e-3), "cuda": Plan(4000, 192, 3e-3)},
    "feed_soft": {"cpu": Plan(600, 96, 1e-3), "cuda": Plan(2500, 192, 1.5e-3)},
    "judge": {"cpu": Plan(1200, 96, 3e-3), "cuda": Plan(4500, 192, 3e-3)},
}
VIEWS = ("close-up", "half", "full", "full")
TEMPERATURE, MARGIN = 0.1, 0.15
DECODED_SHARE = 0.4  # of the persons of a batch; a quarter left both recognisers at .75 on decoded full shots
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
        self.out = nn.Linear(112, EMBEDDING_SIZE)

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
        self.out = nn.Linear(224 + 24 * 7, EMBEDDING_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.out(torch.cat([F.adaptive_avg_pool2d(x, 1).flatten(1), self.rows(x).flatten(1)], 1))


class Trained(nn.Module):
    """The recogniser, and read-outs of the attributes that keep its unit vector legible (dropped at export)."""

    def __init__(self, which: str):
        super().__init__()
        self.net = JudgeNet() if which == "judge" else FeedNet()
        self.reads = nn.Linear(EMBEDDING_SIZE, sum(map(len, CHOICES.values())) + len(FLAGS) + len(AMOUNTS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        unit = F.normalize(self.net(x).float(), dim=1)
        return unit, self.reads(8 * unit)


def attribute_targets(people: list[Identity]) -> dict[str, np.ndarray]:
    targets = {k: np.array([v.index(getattr(p, k)) for p in people]) for k, v in CHOICES.items()}
    targets["flags"] = np.array([[p.glasses, p.beard, p.gender == "woman"] for p in people], np.float32)
    targets["amounts"] = np.array([[p.skin * 2 - 1, (p.width - 0.88) / 0.12] for p in people], np.float32)
    return targets


def attribute_loss(reads: Tensor, targets: dict[str, Tensor]) -> Tensor:
    parts = reads.split([*map(len, CHOICES.values()), len(FLAGS), len(AMOUNTS)], 1)
    loss = sum(F.cross_entropy(part, targets[k]) for part, k in zip(parts, CHOICES, strict=False))
    loss = loss + 2 * F.binary_cross_entropy_with_logits(parts[-2], targets["flags"])
    return loss + 2 * F.smooth_l1_loss(parts[-1], targets["amounts"])


def contrast_loss(unit: Tensor) -> Tensor:
    """Rows k and k + n/2 are one person: both ways softmax over the batch, the right cosine less a margin."""
    n = len(unit)
    partner = torch.arange(n, device=unit.device).roll(n // 2)
    cosines = unit @ unit.T - MARGIN * F.one_hot(partner, n)
    return F.cross_entropy(
        (cosines / TEMPERATURE).masked_fill(torch.eye(n, dtype=torch.bool, device=unit.device), -1e4), partner
    )


@dataclass(frozen=True)
class Pool:
    """Persons, their pictures (n, views, size, size, 3) in one array or more, and landmarks (n, views, 5, 2)."""

    people: list[Identity]
    images: list[np.ndarray]
    landmarks: np.ndarray
    small: float

    def crop(self, person: int, view: int, rng: np.random.Generator) -> np.ndarray:
        first = self.images[0].shape[1]
        image = self.images[0][person, view] if view < first else self.images[1][person, view - first]
        return loose_crop(np.asarray(image), self.landmarks[person, view], rng, self.small)


def training_pool(place: Place, which: str) -> Pool:
    """Pairs of persons (2k, 2k + 1) who differ in one attribute, in every view."""
    name = "judge" if which == "judge" else "feed"
    rng, people = np.random.default_rng(SEED[name]), []
    for _ in range(place.amounts.families):
        identity = random_identity(rng)
        people += [identity, similar_identity(identity, rng)]
    images, landmarks = drawn_portraits(place, f"portraits_{name}", people, VIEWS, SEED[name])
    return Pool(people, [images], landmarks, place.full_radius)


def decoded_pool(place: Place, which: str) -> Pool:
    """Persons whose first view went through the autoencoder; the others are portraits of them as drawn.

    The judge's pictures are other ones than the feeding recogniser's.
    """
    images, truths = training_pictures(place)
    n = min(place.amounts.decoded, len(images) // 2)
    part = range(n) if which == "judge" else range(len(images) - n, len(images))
    back = decoded(place, f"part_{part.start}", images[part.start : part.stop])
    flat = [i for i in part if truths[i][0].style == "flat"]
    people = [truths[i][0].identity for i in flat]
    drawn, landmarks = drawn_portraits(place, f"portraits_decoded_{which}", people, ("close-up", "half"), 31)
    first = np.stack([truths[i][1].landmarks for i in flat])
    crops = [back[[i - part.start for i in flat]][:, None], drawn]
    return Pool(people, crops, np.concatenate([first[:, None], landmarks], 1), place.full_radius)


def load_feed(place: Place, soft: bool = True) -> FeedNet | None:
    """The feeding recogniser, frozen; None before its training. Not `soft`: as the autoencoder learnt with it."""
    path = place.cache / "feed_soft.safetensors"
    path = path if soft and path.exists() else place.cache / "feed.safetensors"
    if not path.exists():
        return None
    net = FeedNet()
    net.load_state_dict(load_file(path))
    return net.eval().requires_grad_(False).to(place.device)


@torch.no_grad()
def held_out_figures(place: Place, net: nn.Module) -> dict[str, float]:
    """On unseen persons, aligned by the true landmarks."""
    _, images, truths = held_out_people(place)
    flat = [
        align_face(np.asarray(images[i, j, k]), t.landmarks)
        for i, p in enumerate(truths)
        for j, s in enumerate(p)
        for k, t in enumerate(s)
    ]
    vectors = torch.cat([net(to_tensor(np.stack(flat[i : i + 60]))) for i in range(0, len(flat), 60)])
    return identity_figures(vectors.numpy().reshape(len(truths), len(SHOTS), 2, EMBEDDING_SIZE))


class Batches:
    """Two crops each of persons who look alike in pairs, and of persons seen through the autoencoder."""

    def __init__(self, place: Place, which: str, batch: int):
        self.pool = training_pool(place, which)
        self.decoded = None if which == "feed" else decoded_pool(place, which)
        self.of_decoded = 0
        if self.decoded:
            self.of_decoded = min(int(batch * DECODED_SHARE / 2), len(self.decoded.people))
        self.of_families = min((batch // 2 - self.of_decoded) // 2, place.amounts.families)

    def __call__(self, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        chosen = rng.choice(len(self.pool.people) // 2, self.of_families, replace=False)
        people = [(self.pool, i) for i in np.concatenate([2 * chosen, 2 * chosen + 1])]
        views = [rng.permutation(len(VIEWS))[:2] for _ in people]
        if self.decoded:
            others = rng.choice(len(self.decoded.people), self.of_decoded, replace=False)
            people += [(self.decoded, i) for i in others]
            views += [(0, int(rng.integers(1, 3))) for _ in others]
        crops = [p.crop(i, v[side], rng) for side in range(2) for (p, i), v in zip(people, views, strict=True)]
        return np.stack(crops), attribute_targets([p.people[i] for p, i in people] * 2)


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED, which: str = "feed") -> bool:
    batches = Batches(place, which, plan.batch)
    torch.manual_seed(SEED[which])
    model = Trained(which)
    model = model.to(place.device, memory_format=torch.channels_last)

    def to_input(crops: np.ndarray) -> Tensor:
        x = to_float(torch.from_numpy(crops).to(place.device))
        return x.contiguous(memory_format=torch.channels_last)

    first = place.cache / ("feed_trained.pt" if which == "feed_soft" else f"{which}_first.pt")  # (warm.py)
    if first.exists():
        model.load_state_dict(torch.load(first, weights_only=True))
        unfold_norms(model, to_input(batches(np.random.default_rng(4))[0]))
    run = Run(place, f"recogniser_{which}", model, plan, SEED[which])

    def loss_of(batch: tuple[np.ndarray, dict[str, np.ndarray]], generator: torch.Generator) -> Tensor:
        crops, wanted = batch
        with place.autocast():
            unit, reads = model(to_input(crops))
        targets = {k: torch.from_numpy(v).to(place.device) for k, v in wanted.items()}
        return contrast_loss(unit.float()) + 0.4 * attribute_loss(reads.float(), targets)

    if not run.train(loss_of, batches, budget, place.loaders):
        return False
    run.use_ema()
    rng = np.random.default_rng(5)
    calibrate_norms(model, [to_input(batches(rng)[0]) for _ in range(12)])
    if which == "feed":
        torch.save(model.cpu().state_dict(), place.cache / "feed_trained.pt")  # `feed_soft` starts from it
    if which != "judge":
        state = {k: v.cpu().contiguous() for k, v in model.net.state_dict().items()}
        save_file(state, place.cache / f"{which}.safetensors")
    export_onnx(model.net, place.pack(which) / "rec.onnx", torch.zeros(1, 3, 112, 112), ["embedding"], True)
    figures = {"parameters": sum(p.numel() for p in model.net.parameters()), "steps": run.steps, "batch": plan.batch}
    place.write_card(f"recogniser_{which}", {**figures, **held_out_figures(place, model.net.float())})
    return True


if __name__ == "__main__":
    single_run(__doc__, PLANS, train, WHICH)
