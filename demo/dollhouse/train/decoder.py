"""Sharpen the autoencoder's decoder on fixed latents: `python -m demo.dollhouse.train.decoder`, after vae.

The encoder stays, so the latents stay, and with them everything that was trained on them; its gradients are saved, and
the decoder learns to read latents that are a little off, as a diffusion model's are. Updates the checkpoint, if there
is one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.dollhouse.train.common import Pictures, cut, load_vae, picture_loss
from demo.dollhouse.train.drawing import WORLD, training_pictures
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, single_run
from demo.dollhouse.train.vae import (
    ALIKE,
    SCALE_FACTOR,
    Likeness,
    crop_side,
    encode_on_all_cores,
    held_out_figures,
    save_half,
)

PLANS = {"cpu": Plan(2000, 16, 1e-3, muon=True), "cuda": Plan(8000, 64, 8e-4)}
WHOLE = 0.3
NOISE = 0.02  # of a scaled latent's unit variance


def encoder_hash(place: Place) -> str:
    """Of what latents follow from: sharpening the decoder leaves it."""
    state = {k: v for k, v in load_file(place.vae).items() if k.startswith(("encoder.", "quant_conv."))}
    return hashlib.sha256(b"".join(state[k].numpy().tobytes() for k in sorted(state))).hexdigest()[:8]


def latents_of(place: Place, images: np.ndarray, name: str = "latents") -> Tensor:
    """Scaled latents (n, 4, size / 8, size / 8) of pictures, kept under the encoder's hash."""
    path = place.cache / f"{name}_{len(images)}_world{WORLD}_{encoder_hash(place)}.pt"
    if not path.exists():
        torch.save(encode_on_all_cores(place, load_vae(place), images) * SCALE_FACTOR, path)
    return torch.load(path, weights_only=True).to(place.device)


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED) -> bool:
    images, truths = training_pictures(place)
    pictures, likeness = Pictures(images, truths, place.device), Likeness(place)
    latents = latents_of(place, images).permute(0, 2, 3, 1)
    model = load_vae(place, place.cache / "vae.safetensors")
    model.decoder.requires_grad_(True)
    model.post_quant_conv.requires_grad_(True)
    run = Run(place, "decoder", model, plan)
    part = crop_side(place)

    def make(rng: np.random.Generator) -> dict[int, np.ndarray]:
        whole = pictures.places(rng, plan.batch // 6 or 1, place.size, 8)
        return {part: pictures.places(rng, plan.batch, part, 8), place.size: whole}

    def loss_of(batch: dict[int, np.ndarray], generator: torch.Generator) -> Tensor:
        size = place.size if run.step >= run.steps * (1 - WHOLE) else part
        places = torch.from_numpy(batch[size]).to(place.device)
        x = pictures.cut(places, size)
        z = cut(latents, torch.cat([places[:, :1], places[:, 1:] // 8], 1), size // 8).permute(0, 3, 1, 2)
        z = z + NOISE * torch.randn(z.shape, generator=generator, device=place.device)
        with place.autocast():
            y = model.decode(z / SCALE_FACTOR)
            alike = likeness(pictures, x, y.float(), places)
        return picture_loss(x, y.float(), pictures.weight(places, size)) + ALIKE * alike

    if not run.train(loss_of, make, budget):
        return False
    run.use_ema()
    model.eval()
    save_half(model, place.cache / "vae_sharp.safetensors")
    if place.checkpoint.exists():
        kept = {k: v.clone() for k, v in load_file(place.checkpoint).items() if not k.startswith("first_stage_model.")}
        state = load_file(place.vae)
        save_file(kept | {f"first_stage_model.{k}": v for k, v in state.items()}, place.checkpoint)
    place.write_card("decoder", {"steps": run.steps, "batch": plan.batch, **held_out_figures(place, model)})
    return True


if __name__ == "__main__":
    single_run(__doc__, PLANS, train)
