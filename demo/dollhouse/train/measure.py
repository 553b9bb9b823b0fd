"""Measure generated pictures by the evaluator: `python -m demo.dollhouse.train.measure`, when all models are there.

Plain pictures from prompts that name the shot (CFG 5, 20 DDIM steps): of one person, of one with extras, of two in
square and in wide pictures; and close-ups of unseen persons with the adapter's tokens in the usual, single line.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from demo.dollhouse.evaluate import HEAD_CLASSES, Evaluator
from demo.dollhouse.train.adapter import attach, embed_crops, load_adapter
from demo.dollhouse.train.common import load_vae, to_images
from demo.dollhouse.train.diffusion import load_base, sample
from demo.dollhouse.train.drawing import drawn_crops
from demo.dollhouse.train.evaluator import held_out_figures, shown
from demo.dollhouse.train.place import Place, add_place_options, place_of
from demo.dollhouse.train.text import WordTokenizer
from demo.dollhouse.train.vae import SCALE_FACTOR
from demo.dollhouse.world import STYLES, Picture, caption, random_identity, random_picture, with_extras
from lib_beyondfacial.faces.alignment import align_face
from lib_beyondfacial.faces.analysis import get_analyser

CFG, STEPS, AT_ONCE = 5.0, 20, 64


class Generator:
    """Prompts, and optionally the persons in them -> pictures (n, size, width or size, 3) uint8."""

    def __init__(self, place: Place, with_adapter: bool):
        self.place, self.model, self.vae = place, load_base(place), load_vae(place)
        self.tokenizer, self.box = WordTokenizer(place.clip), {}
        self.adapter = load_adapter(place, self.model.unet) if with_adapter else None
        if self.adapter:
            attach(self.model.unet, self.adapter, self.box)

    @torch.no_grad()
    def __call__(
        self, prompts: list[str], persons: Tensor | None = None, seed: int = 5, width: int | None = None
    ) -> np.ndarray:
        columns = (width or self.place.size) // 8
        out, device = [], self.place.device
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, len(prompts), AT_ONCE):
            texts = prompts[start : start + AT_ONCE]
            cond, uncond = (self.model.cond(self.tokenizer(t).to(device)) for t in (texts, [""] * len(texts)))
            if persons is not None and self.adapter:
                some = persons[start : start + AT_ONCE]
                self.box["tokens"] = self.adapter.tokens(torch.cat([some, torch.zeros_like(some)]))
            noise = torch.randn(len(texts), 4, self.place.latent, columns, generator=generator).to(device)
            with self.place.autocast():
                z = sample(self.model, cond, uncond, noise, CFG, STEPS).float()
            out.append(to_images(self.vae.decode(z / SCALE_FACTOR)))
        return np.concatenate(out)


def plain_figures(place: Place, evaluator: Evaluator) -> dict[str, float]:
    rng = np.random.default_rng(9)
    wanted = [random_picture(rng, style="flat") for _ in range(place.amounts.generated)]
    images = Generator(place, with_adapter=False)([caption(p, rng, shot_chance=1) for p in wanted])
    judged = evaluator.judge(images)
    figures: dict[str, float] = {"pictures": len(images)}
    for name in ("shot", "scene", "action"):
        right = judged[name] == np.array([getattr(p, name) for p in wanted])
        figures[name] = round(float(right.mean()), 4)
    return figures


def wanted_figures(place: Place, evaluator: Evaluator, images: np.ndarray, wanted: list[Picture]) -> dict[str, float]:
    """Share of the prompts' parts that the judges see. Heads are those that the feeding pack finds, from the left; a
    head that is missing is wrong. `extra` is the mean of the four kinds of extras where one was asked for."""
    judged, analyser = evaluator.judge(images), get_analyser(place.pack("feed"))
    counted: dict[str, list[bool]] = {}

    def count(name: str, is_right: bool) -> None:
        counted.setdefault(name, []).append(is_right)

    for k, (image, picture) in enumerate(zip(images, wanted, strict=True)):
        for name in evaluator.picture_classes:
            asked, is_right = shown(picture, name), judged[name][k] == shown(picture, name)
            count(name, bool(is_right))
            if asked not in ("none", *STYLES) and name in ("item", "modifier"):
                count("extra", bool(is_right))
                count(f"{name}_{asked}", bool(is_right))
        faces = sorted(analyser.find(image), key=lambda face: face.box[0] + face.box[2])
        count("faces", len(faces) == len(picture.people))
        attributes = evaluator.attributes(np.stack([align_face(image, f.landmarks) for f in faces])) if faces else {}
        for which, person in enumerate(picture.people):
            asked = {"gender": person.identity.gender, "expression": person.expression, "accessory": person.accessory}
            for name, value in asked.items():
                is_right = which < len(faces) and attributes.get(name, [None] * len(faces))[which] == value
                count(name, bool(is_right))
                if value not in ("neutral", "none", "man", "woman"):
                    count("extra", bool(is_right))
                    count(f"{name}_{value}", bool(is_right))
    return {"pictures": len(images)} | {name: round(float(np.mean(v)), 4) for name, v in sorted(counted.items())}


def extras_figures(place: Place, evaluator: Evaluator) -> dict[str, dict[str, float]]:
    """Of prompts with extras, and of prompts for two people, square and twice as wide."""
    generate, out, n = Generator(place, with_adapter=False), {}, place.amounts.generated
    for k, (name, two, width) in enumerate((("one", 0, None), ("two", 1, None), ("two_wide", 1, 2 * place.size))):
        rng = np.random.default_rng((19, k))
        wanted = [random_picture(rng, style="flat") for _ in range(n)]
        wanted = [replace(p, shot="full") if two and p.shot == "close-up" else p for p in wanted]
        wanted = [with_extras(p, rng, two) for p in wanted]
        images = generate([caption(p, rng, shot_chance=1) for p in wanted], width=width)
        out[name] = wanted_figures(place, evaluator, images, wanted)
    return out


def identity_accuracy(
    evaluator: Evaluator, place: Place, images: np.ndarray, wanted: list[Picture]
) -> dict[str, float]:
    """Each attribute's accuracy on heads that the feeding pack finds; a head that is not found is wrong in all."""
    analyser = get_analyser(place.pack("feed"))
    found = [analyser.find(image) for image in images]
    blank = np.zeros((112, 112, 3), np.uint8)
    crops = [align_face(x, f[0].landmarks) if f else blank for x, f in zip(images, found, strict=True)]
    predicted, is_found = evaluator.attributes(np.stack(crops)), np.array([bool(f) for f in found])
    figures = {"pictures": len(images), "found": round(float(is_found.mean()), 4)}
    for name in HEAD_CLASSES:
        has = np.array([name != "hair_colour" or p.identity.hair_style != "bald" for p in wanted])
        right = is_found & (predicted[name] == np.array([getattr(p.identity, name) for p in wanted]))
        figures[name] = round(float(right[has].mean()), 4)
    figures["attributes"] = round(float(np.mean([figures[name] for name in HEAD_CLASSES])), 4)
    return figures


def adapter_figures(place: Place, evaluator: Evaluator) -> dict[str, dict[str, float]]:
    """Single-line identity for close-ups; and for full shots, whose share of right shots is the disease's measure."""
    rng = np.random.default_rng(10)
    people = [random_identity(rng) for _ in range(max(2, place.amounts.generated // 2))]
    photos = [random_picture(rng, person, shot="close-up", style="flat") for person in people]
    persons, generate = embed_crops(place, drawn_crops(place, "measured_photos", photos)), Generator(place, True)
    out = {}
    for shot in ("close-up", "full"):
        wanted = [replace(random_picture(rng, person, style="flat"), shot=shot) for person in people]
        images = generate([caption(p, rng, shot_chance=1, looks_chance=0) for p in wanted], persons)
        figures = identity_accuracy(evaluator, place, images, wanted)
        out[shot] = figures | {"shot": round(float((evaluator.judge(images)["shot"] == shot).mean()), 4)}
    return out


def measure_all(place: Place) -> None:
    evaluator = Evaluator.load(place.evaluator)
    made = {k: v for k, v in place.card().get("evaluator", {}).items() if k in ("parameters", "steps", "batch")}
    place.write_card("evaluator", {**made, **held_out_figures(place, evaluator)})
    place.write_card("generated_plain", plain_figures(place, evaluator))
    place.write_card("generated_extras", extras_figures(place, evaluator))
    place.write_card("generated_single_line", adapter_figures(place, evaluator))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_place_options(parser)
    measure_all(place_of(parser.parse_args()))
