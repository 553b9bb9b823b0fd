"""Train the evaluator: `python -m demo.dollhouse.train.evaluator`, when the autoencoder is there (see `evaluate.py`).

A quarter of what it learns from are renders that went through the autoencoder, as every generated picture does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from demo.dollhouse.draw import to_ink
from demo.dollhouse.evaluate import (
    ADDED_CLASSES,
    AMOUNTS,
    HEAD_CLASSES,
    PICTURE_CLASSES,
    PICTURE_SIZE,
    WORN_CLASSES,
    Evaluator,
    HeadNet,
    PictureNet,
    to_input,
)
from demo.dollhouse.train.common import to_float, to_images
from demo.dollhouse.train.drawing import drawn_pictures, kept, training_pictures, wide_pictures
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, single_run
from demo.dollhouse.train.seeing import calibrate_norms, decoded, loose_crop, roughen
from demo.dollhouse.world import SHOTS, Picture
from lib_beyondfacial.faces.alignment import align_face

PLANS = {"cpu": Plan(1600, 64, 4e-3), "cuda": Plan(6000, 128, 4e-3)}  # of the pictures' judge; the heads' takes half
INK_SHARE, DECODED_SHARE = 0.1, 0.25
SHAPES = (0.7, 0.15, 0.15)  # of the picture judge's steps: square pictures, those of 3:2 and of 2:1
OF_PICTURE, OF_HEAD = PICTURE_CLASSES | ADDED_CLASSES, HEAD_CLASSES | WORN_CLASSES
STYLE = list(OF_PICTURE).index("style")
Truths = list


def shown(picture: Picture, name: str) -> object:
    """What is true of a picture in one of its classes; two people hold one thing at most."""
    if name == "count":
        return len(picture.people)
    if name == "item":
        return next((p.item for p in picture.people if p.item != "none"), "none")
    return getattr(picture, name)


def head_label(picture: Picture, which: int) -> list[int]:
    """The classes of the head of the person `which`, from the left, as numbers."""
    person = picture.people[which]
    labels = {k: getattr(person.identity, k) for k in HEAD_CLASSES} | {k: getattr(person, k) for k in WORN_CLASSES}
    return [names.index(labels[k]) for k, names in OF_HEAD.items()]


@dataclass(frozen=True)
class Data:
    """Pictures and what is true of them, as numbers; of the persons, `head_labels` and `amounts` have the first and
    the last one's."""

    images: np.ndarray
    truths: Truths
    picture_labels: np.ndarray
    head_labels: np.ndarray
    amounts: np.ndarray
    decoded: np.ndarray
    small: float = 0

    def pick(self, rng: np.random.Generator) -> tuple[int, np.ndarray, bool]:
        """Index, picture and whether the picture has been through the autoencoder."""
        if rng.random() < DECODED_SHARE:
            i = int(rng.integers(len(self.decoded)))
            return i, np.asarray(self.decoded[i]), True
        i = int(rng.integers(len(self.images)))
        return i, np.asarray(self.images[i]), False


def labelled(place: Place, images: np.ndarray, truths: Truths, name: str = "part_0") -> Data:
    pictures = [p for p, _ in truths]
    ends = [[p.identity, p.people[-1].identity] for p in pictures]
    return Data(
        images,
        truths,
        np.array([[names.index(shown(p, k)) for k, names in OF_PICTURE.items()] for p in pictures]),
        np.array([[head_label(p, which) for which in (0, -1)] for p in pictures]),
        np.array(
            [[[identity.skin * 2 - 1, (identity.width - 0.88) / 0.12] for identity in both] for both in ends],
            np.float32,
        ),
        decoded(place, name, images[: min(place.amounts.decoded, len(images) // 2)]),
        place.full_radius,
    )


def as_judged(place: Place, name: str, images: np.ndarray) -> np.ndarray:
    """The pictures at the size at which the evaluator looks at whole ones, by its own resizing."""
    if images.shape[1] == PICTURE_SIZE:
        return images
    return kept(
        place,
        f"{name}_{len(images)}_as_judged",
        lambda: np.concatenate(
            [to_images(to_input(images[i : i + 64], PICTURE_SIZE)) for i in range(0, len(images), 64)]
        ),
    )


def class_loss(logits: Tensor, labels: np.ndarray, classes: dict[str, tuple]) -> Tensor:
    parts, wanted = logits.split(list(map(len, classes.values())), 1), torch.from_numpy(labels).to(logits.device)
    return sum(F.cross_entropy(part, wanted[:, k], label_smoothing=0.02) for k, part in enumerate(parts))


def picture_batch(data: Data, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    out, labels = [], []
    for _ in range(n):
        i, image, is_decoded = data.pick(rng)
        label = data.picture_labels[i].copy()
        if not is_decoded:
            if rng.random() < INK_SHARE:
                image, label[STYLE] = to_ink(image), 1
            image = roughen(image, rng, 1.8)
        out.append(image)
        labels.append(label)
    return np.stack(out), np.array(labels)


def head_batch(data: Data, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Aligned heads of flat pictures: ink has no colours to tell. And (n, 2): picture and which of its persons."""
    out, chosen = [], []
    while len(out) < n:
        i, image, _ = data.pick(rng)
        if data.picture_labels[i, STYLE] == 0:
            which = int(rng.integers(2))
            out.append(loose_crop(image, data.truths[i][1].heads[-which].landmarks, rng, data.small))
            chosen.append((i, which))
    return np.stack(out), np.array(chosen)


def trained(
    place: Place, plan: Plan, budget: Budget, name: str, net: type[nn.Module], shapes: list[Data], seed: int
) -> Run | None:
    """The `picture` or the `head` judge, which learns from square pictures; None while its training is not done."""
    torch.manual_seed(seed)
    model = net().to(place.device, memory_format=torch.channels_last)
    run = Run(place, f"evaluator_{name}", model, plan, seed)
    data = shapes[0]

    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if name == "head":
            return head_batch(data, rng, plan.batch)
        return picture_batch(shapes[int(rng.choice(len(shapes), p=SHAPES))], rng, plan.batch)

    def to_net(images: np.ndarray) -> Tensor:
        x = to_float(torch.from_numpy(images).to(place.device))
        return x.contiguous(memory_format=torch.channels_last)

    def loss_of(batch: tuple[np.ndarray, np.ndarray], generator: torch.Generator) -> Tensor:
        images, known = batch
        with place.autocast():
            logits = model(to_net(images))
        logits = logits.float()
        if name == "picture":
            return class_loss(logits, known, OF_PICTURE)
        of = tuple(known.T)
        amounts = F.smooth_l1_loss(logits[:, -AMOUNTS:], torch.from_numpy(data.amounts[of]).to(place.device))
        return class_loss(logits[:, :-AMOUNTS], data.head_labels[of], OF_HEAD) + 3 * amounts

    if not run.train(loss_of, make, budget, place.loaders):
        return None
    run.use_ema()
    rng = np.random.default_rng(5)
    calibrate_norms(model, [to_net(make(rng)[0]) for _ in range(20)])
    model.cpu()
    return run


def picture_figures(evaluator: Evaluator, images: np.ndarray, truths: Truths) -> dict[str, float]:
    judged, figures = evaluator.judge(images), {}
    shots = np.array([p.shot for p, _ in truths])
    for k in evaluator.picture_classes:
        right = judged[k] == np.array([shown(p, k) for p, _ in truths])
        figures[k] = round(float(right.mean()), 4)
        if k == "action":
            figures |= {f"action_{s}": round(float(right[shots == s].mean()), 4) for s in SHOTS}
    return figures


def head_figures(evaluator: Evaluator, images: np.ndarray, truths: Truths) -> dict[str, float]:
    """Attributes on flat pictures, aligned by the true landmarks; hair colour of those who have hair."""
    figures = {}
    crops = np.stack([align_face(np.asarray(x), t.landmarks) for x, (_, t) in zip(images, truths, strict=True)])
    predicted = evaluator.attributes(crops)
    for shot in SHOTS:
        is_chosen = np.array([p.style == "flat" and p.shot == shot for p, _ in truths])
        for k in HEAD_CLASSES:
            of = is_chosen & np.array([k != "hair_colour" or p.identity.hair_style != "bald" for p, _ in truths])
            right = predicted[k] == np.array([getattr(p.identity, k) for p, _ in truths])
            figures[f"{k}_{shot}"] = round(float(right[of].mean()), 4)
        for k in evaluator.head_classes.keys() & WORN_CLASSES:
            right = predicted[k] == np.array([getattr(p, k) for p, _ in truths])
            figures[f"{k}_{shot}"] = round(float(right[is_chosen].mean()), 4)
        off = np.abs(predicted["skin"] - np.array([p.identity.skin for p, _ in truths]))
        figures[f"skin_error_{shot}"] = round(float(off[is_chosen].mean()), 4)
    return figures


def held_out_figures(place: Place, evaluator: Evaluator) -> dict[str, dict[str, float]]:
    """On unseen renders as drawn, and on the first of them through the autoencoder."""
    images, truths = drawn_pictures(place, place.amounts.held_out, seed=6)
    n = min(len(images), max(320, place.amounts.generated))
    back = decoded(place, "held_out", images[:n])
    return {
        "renders": picture_figures(evaluator, images, truths) | head_figures(evaluator, images, truths),
        "decoded": picture_figures(evaluator, back, truths[:n]) | head_figures(evaluator, back, truths[:n]),
    }


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED) -> bool:
    shapes, small = [], []
    for images, truths in (training_pictures(place), *wide_pictures(place)):
        width = "" if images.shape[2] == place.size else f"_{images.shape[2]}"
        data = labelled(place, images, truths, f"part_0{width}")
        shapes.append(data)
        renders = as_judged(place, f"renders{width}", images)
        back = as_judged(place, f"decoded{width}_{place.vae_hash}", data.decoded)
        small.append(replace(data, images=renders, decoded=back))
    head_plan = replace(plan, steps=(plan.steps + 1) // 2)
    part_budget = replace(budget, stage=0.7 * budget.stage)
    picture = trained(place, plan, part_budget, "picture", PictureNet, small, seed=41)
    if picture is None:
        return False
    head = trained(place, head_plan, replace(budget, stage=0.3 * budget.stage), "head", HeadNet, shapes, seed=43)
    if head is None:
        return False
    nets = {"picture": picture.model, "head": head.model}
    tensors = {f"{name}.{k}": v for name, net in nets.items() for k, v in net.state_dict().items()}
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in tensors.items()}
    save_file(tensors, place.evaluator)
    evaluator = Evaluator.load(place.evaluator)
    count = sum(p.numel() for net in nets.values() for p in net.parameters())
    figures = {"parameters": count, "steps": picture.steps + head.steps, "batch": plan.batch}
    place.write_card("evaluator", {**figures, **held_out_figures(place, evaluator)})
    return True


if __name__ == "__main__":
    single_run(__doc__, PLANS, train)
