"""Train the face pack's gender model: `python -m demo.dollhouse.train.genders`, when the autoencoder is there.

The form of insightface's gender and age: heads (B, 3, 96, 96), a square half again as large as the box's longer side,
-> (B, 3): scores of female and male, and the age in hundreds of years, which is the same for all here. A woman of this
world has red lips and earrings, and only men have beards or are bald. Some of the heads went through the autoencoder,
as those of all generated pictures do.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.dollhouse.train.detector import detector_input
from demo.dollhouse.train.drawing import drawn_pictures, training_pictures, wide_pictures
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, single_run
from demo.dollhouse.train.seeing import Residual, calibrate_norms, conv_norm, decoded, export_onnx, roughen
from lib_beyondfacial.faces.engine_onnx import GENDER_SIDE, cut_head

PLANS = {"cpu": Plan(2000, 48, 3e-3), "cuda": Plan(4000, 128, 3e-3)}
GENDERS = ("woman", "man")  # insightface's order
AGE = 0.3
DECODED_SHARE, WIDE_SHARE = 0.5, 0.3
JITTER = 0.08  # of a box's side: a detector's boxes are a little off
OF_DECODED = "part_0"  # of the pictures: those that other seeing models have decoded


class GenderNet(nn.Module):
    """(B, 3, 96, 96) -> (B, 2)."""

    def __init__(self, widths: tuple[int, ...] = (24, 40, 64)):
        super().__init__()
        layers, before = [nn.Sequential(conv_norm(3, 16, 3, 2), nn.ReLU())], 16
        for width in widths:
            layers.append(nn.Sequential(conv_norm(before, width, 3, 2), nn.ReLU(), Residual(width)))
            before = width
        self.layers, self.score = nn.Sequential(*layers), nn.Linear(before * 36, len(GENDERS))

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.layers(x).flatten(1))


class GenderForm(nn.Module):
    """The three numbers that insightface reads."""

    def __init__(self, net: GenderNet):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.net(x), (0, 1), value=AGE)


class Batches:
    """Heads and whose they are, half of them decoded, and some of wide pictures with two people."""

    def __init__(self, place: Place, batch: int):
        images, truths = training_pictures(place)
        n = min(place.amounts.decoded, len(images) // 2)
        self.drawn = [(images, truths), *wide_pictures(place)]
        self.decoded, self.batch = (decoded(place, OF_DECODED, images[:n]), truths[:n]), batch

    def head(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        is_decoded, is_wide = rng.random() < DECODED_SHARE, rng.random() < WIDE_SHARE
        images, truths = self.decoded if is_decoded else self.drawn[int(rng.integers(1, 3)) if is_wide else 0]
        i = int(rng.integers(len(images)))
        picture, truth = truths[i]
        which = int(rng.integers(len(truth.heads)))
        box = np.array(truth.heads[which].head_box)
        box = box + rng.normal(0, JITTER / 2, 4) * max(box[2:] - box[:2])
        image = np.asarray(images[i])
        head = cut_head(image if is_decoded else roughen(image, rng, 0.9), box)
        return head, GENDERS.index(picture.people[which].identity.gender)

    def __call__(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        heads, genders = zip(*[self.head(rng) for _ in range(self.batch)], strict=True)
        return np.stack(heads), np.array(genders)


@torch.no_grad()
def held_out_accuracy(place: Place, net: GenderNet, n: int = 400) -> dict[str, float]:
    """Share of unseen persons told rightly, in full shots and in all: as drawn, and decoded. Ink has no colour, and so
    no red lips."""
    images, truths = drawn_pictures(place, min(n, place.amounts.held_out), seed=2)
    is_flat = [picture.style == "flat" for picture, _ in truths]
    images, truths = np.asarray(images)[is_flat], [truth for truth in truths if truth[0].style == "flat"]
    back, figures = decoded(place, "held_out_genders", images), {}
    is_full = np.array([picture.shot == "full" for picture, _ in truths])
    wanted = np.array([GENDERS.index(picture.identity.gender) for picture, _ in truths])
    for name, pictures in (("renders", images), ("decoded", back)):
        boxes = [np.array(truth.head_box) for _, truth in truths]
        heads = np.stack([cut_head(image, box) for image, box in zip(pictures, boxes, strict=True)])
        right = net(detector_input(torch.from_numpy(heads).to(place.device))).argmax(1).cpu().numpy() == wanted
        figures |= {name: round(float(right.mean()), 4), f"{name}_full": round(float(right[is_full].mean()), 4)}
    return figures


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED) -> bool:
    batches = Batches(place, plan.batch)
    torch.manual_seed(6)
    model = GenderNet().to(place.device)
    run = Run(place, "genders", model, plan, seed=6)

    def to_input(heads: np.ndarray) -> Tensor:
        return detector_input(torch.from_numpy(heads).to(place.device))

    def loss_of(batch: tuple[np.ndarray, np.ndarray], generator: torch.Generator) -> Tensor:
        with place.autocast():
            scores = model(to_input(batch[0]))
        return F.cross_entropy(scores.float(), torch.from_numpy(batch[1]).to(place.device), label_smoothing=0.02)

    if not run.train(loss_of, batches, budget, place.loaders):
        return False
    run.use_ema()
    rng = np.random.default_rng(5)
    calibrate_norms(model, [to_input(batches(rng)[0]) for _ in range(20)])
    figures = {"parameters": sum(p.numel() for p in model.parameters()), "steps": run.steps, "batch": plan.batch}
    place.write_card("genders", {**figures, **held_out_accuracy(place, model)})
    path = place.pack("feed") / "gender.onnx"
    export_onnx(GenderForm(model), path, torch.zeros(1, 3, GENDER_SIDE, GENDER_SIDE), ["genderage"], batch_axis=True)
    return True


if __name__ == "__main__":
    single_run(__doc__, PLANS, train)
