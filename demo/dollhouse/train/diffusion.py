"""Train UNet and text model together on the VAE's latents: `python -m demo.dollhouse.train.diffusion`.

eps-prediction, SD's own beta schedule, min-SNR-5 weights, a share of the loss for the head, one caption in ten left
empty. Writes the SD 1.x checkpoint and its yaml. Latents and tokenised captions lie on the device: a step waits for
no disk and no other process.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from demo.dollhouse.train.checkpoint import UNET, write_checkpoint
from demo.dollhouse.train.decoder import latents_of
from demo.dollhouse.train.drawing import training_pictures, wide_pictures
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, single_run
from demo.dollhouse.train.text import caption_ids, empty_ids, make_text_model, write_tokenizer
from demo.nets.unet import UNetModel
from demo.nets.vae import count_parameters

# A step of 256 pictures takes a GPU hardly longer than one of 64; a CPU learns more from many small steps.
PLANS = {"cpu": Plan(12000, 16, 1e-3, muon=True), "cuda": Plan(20000, 256, 2e-3, muon=True)}
EMPTY = 0.1  # of the captions, for CFG
LOOKS = 0.5  # chance that a caption names each of a head's looks
COARSE, COARSE_WEIGHT = 3, 3.0  # latent px to one of the error's thumbnail: what decides colours
HEAD_SHARE, EYES_SHARE = 0.7, 0.3  # of a picture's loss that heads and eyes have beside all else's 1
MOUTH_SHARE = 0.2  # and the mouths, which say an expression
SHAPES = (0.45, 0.4, 0.15)  # of the steps: square pictures, those of 3:2 and of 2:1; how many people is learnt last
LAYOUT = 0.67  # below 1: timesteps are drawn with more of the noisy ones, where people get their places
FADE, FULL = 1.0, 3.0  # noise levels (sigma) between which a step's weight grows: there it is decided who it will be


def alphas_cumprod() -> Tensor:
    betas = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


class TextToLatent(nn.Module):
    """The two networks that are trained together."""

    def __init__(self, place: Place):
        super().__init__()
        self.unet, self.text = UNetModel(**UNET), make_text_model(place.clip)
        nn.init.zeros_(self.unet.out[2].weight)
        nn.init.zeros_(self.unet.out[2].bias)

    def cond(self, ids: Tensor) -> Tensor:
        return self.text(ids.long())


@dataclass(frozen=True)
class Guess:
    """A training step's rows: latents z (B, 4, h, w), timesteps t (B,), the noise, and the model's eps."""

    z: Tensor
    t: Tensor
    noise: Tensor
    eps: Tensor


class Noise:
    """What a training step draws on the device: timesteps, as the `power` of a uniform number, and noise; and the loss
    on them."""

    def __init__(self, place: Place, power: float = 1.0):
        self.place, self.abar, self.power = place, alphas_cumprod().to(place.device), power

    def guess(
        self, model: TextToLatent, z: Tensor, ids: Tensor, generator: torch.Generator, timesteps: int = 1000
    ) -> Guess:
        """The model's eps of rows that are noised at random, at timesteps below a limit."""
        u = torch.rand(len(z), generator=generator, device=z.device)
        t = (u**self.power * timesteps).long().clamp(max=timesteps - 1)
        noise = torch.randn(z.shape, generator=generator, device=z.device)
        a = self.abar[t][:, None, None, None]
        with self.place.autocast():
            eps = model.unet(a.sqrt() * z + (1 - a).sqrt() * noise, t, model.cond(ids))
        return Guess(z, t, noise, eps.float())

    def denoised(self, guess: Guess) -> Tensor:
        """The picture that the eps stands for."""
        a = self.abar[guess.t][:, None, None, None]
        return guess.z + ((1 - a) / a).sqrt() * (guess.noise - guess.eps)

    def loss(self, guess: Guess, weight: Tensor | None = None) -> Tensor:
        """Weighted squared error of eps: weight min(SNR, 5) / SNR, more where the noise is strong, and `weight`
        (B, h, w) over each picture."""
        error = guess.eps - guess.noise
        weight = torch.ones_like(error[:, 0]) if weight is None else weight
        weight = weight / weight.mean((1, 2), keepdim=True)
        small = [max(side // COARSE, 1) for side in error.shape[2:]]
        coarse = F.adaptive_avg_pool2d(error, small).pow(2).mean(1) * F.adaptive_avg_pool2d(weight, small)
        error = (error.pow(2).mean(1) * weight).mean((1, 2)) + COARSE_WEIGHT * coarse.mean((1, 2))
        snr = self.abar[guess.t] / (1 - self.abar[guess.t])
        return (error * snr.clamp(max=5) / snr * snr.rsqrt().clamp(FADE, FULL)).mean()


def box_round(points: np.ndarray) -> tuple[float, float, float, float]:
    """Round both eyes or both corners of a mouth, with a third of their distance on each side."""
    margin = float(np.linalg.norm(points[1] - points[0])) / 3
    (x0, y0), (x1, y1) = points.min(0) - margin, points.max(0) + margin
    return float(x0), float(y0), float(x1), float(y1)


def head_weights(truths: list, size: int, latent: int, width: int | None = None) -> Tensor:
    """(n, latent, width or latent): 1, and more inside the boxes of heads, eyes and mouths, so that these have their
    share of a picture's loss however small they are. A full shot's head is one latent in twenty; its looks were
    learnt last. `size` px are `latent` latents."""
    width = width or latent
    weights = torch.ones(len(truths), latent, width)
    for one, (_, truth) in zip(weights, truths, strict=True):
        for head in truth.heads:
            eyes, mouth = box_round(head.landmarks[:2]), box_round(head.landmarks[3:])
            for box, share in ((head.head_box, HEAD_SHARE), (eyes, EYES_SHARE), (mouth, MOUTH_SHARE)):
                x0, y0, x1, y1 = (float(v) * latent / size for v in box)
                rows, columns = np.clip((y0, y1), 0, latent), np.clip((x0, x1), 0, width)
                inside = one[int(rows[0]) : math.ceil(rows[1]), int(columns[0]) : math.ceil(columns[1])]
                if inside.numel():
                    inside += share * one.numel() / inside.numel()
    return weights


def pick_captions(rng: np.random.Generator, n: int, batch: int, captions: int) -> np.ndarray:
    """(batch, 3): picture, which of its wordings, and whether it is left empty."""
    columns = (rng.integers(n, size=batch), rng.integers(captions, size=batch), rng.random(batch) < EMPTY)
    return np.stack(columns, 1).astype(np.int64)


@torch.no_grad()
def sample(
    model: TextToLatent, cond: Tensor, uncond: Tensor, noise: Tensor, cfg: float = 5.0, steps: int = 20
) -> Tensor:
    """Plain DDIM, to measure the result."""
    abar = alphas_cumprod().to(noise.device)
    ts = torch.linspace(999, 0, steps + 1).round().long().to(noise.device)
    x, both_cond = noise, torch.cat([cond, uncond])
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        eps_cond, eps_uncond = model.unet(torch.cat([x, x]), t.expand(2 * len(x)), both_cond).chunk(2)
        eps = eps_uncond + cfg * (eps_cond - eps_uncond)
        denoised = (x - (1 - abar[t]).sqrt() * eps) / abar[t].sqrt()
        x = abar[s].sqrt() * denoised + (1 - abar[s]).sqrt() * eps
    return x


def begin_with(model: TextToLatent, state: dict[str, Tensor], rows: list[int] | None = None) -> None:
    """A checkpoint's UNet and text model, each where it is of the same shape. Where its vocabulary was another, `rows`
    says which of its tokens each of ours was (-1: a new one, which keeps its first state)."""
    table = "text_model.embeddings.token_embedding.weight"
    for prefix, part in (("model.diffusion_model.", model.unet), ("cond_stage_model.transformer.", model.text)):
        shipped = {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}
        current = {k: v.clone() for k, v in part.state_dict().items()}
        if rows is not None and table in shipped:
            is_known = torch.tensor(rows) >= 0
            current[table][is_known] = shipped[table][torch.tensor(rows)[is_known]]
            shipped[table] = current[table]
        if {k: v.shape for k, v in shipped.items()} == {k: v.shape for k, v in current.items()}:
            part.load_state_dict(shipped)


def known_tokens(current: Path, shipped: Path) -> list[int]:
    """Of each of our tokens, its number in another vocabulary, or -1."""
    vocabulary, other = (json.loads(path.read_text(encoding="utf-8")) for path in (current, shipped))
    return [other.get(token, -1) for token in sorted(vocabulary, key=vocabulary.__getitem__)]


def load_base(place: Place) -> TextToLatent:
    """The checkpoint's UNet and text model, frozen."""
    state = {k: v.float() for k, v in load_file(place.checkpoint).items()}
    model = TextToLatent(place)
    for prefix, part in (("model.diffusion_model.", model.unet), ("cond_stage_model.transformer.", model.text)):
        part.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return place.put(model.requires_grad_(False))


@dataclass(frozen=True)
class Shape:
    """All training pictures of one shape: latents (n, 4, h, w), tokenised captions (n, k, 77), weights (n, h, w)."""

    latents: Tensor
    ids: Tensor
    weights: Tensor

    def batch(self, batch: int) -> int:
        """Rows that cost as much as `batch` square ones."""
        height, width = self.latents.shape[2:]
        return max(1, round(batch * height / width))


def shapes_of(place: Place) -> list[Shape]:
    """Square pictures, and wide ones."""
    shapes = []
    for k, (images, truths) in enumerate([training_pictures(place), *wide_pictures(place)]):
        latents = latents_of(place, images, f"latents_{images.shape[2]}" if k else "latents")
        ids = caption_ids(place, [p for p, _ in truths], 21 + 100 * k, looks_chance=LOOKS)
        weights = head_weights(truths, place.size, *latents.shape[2:])
        shapes.append(Shape(latents, ids, weights.to(place.device)))
    return shapes


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED) -> bool:
    write_tokenizer(place.clip)
    shapes = shapes_of(place)
    torch.manual_seed(0)
    model = TextToLatent(place)
    first = place.cache / "base_first.safetensors"  # (warm.py)
    if first.exists():
        words = place.cache / "vocab_first.json"
        begin_with(model, load_file(first), known_tokens(place.clip / "vocab.json", words) if words.exists() else None)
    model, noise, empty = place.put(model), Noise(place, LAYOUT), empty_ids(place).to(torch.int16)
    run = Run(place, "diffusion", model, plan)

    def make(rng: np.random.Generator) -> tuple[int, np.ndarray]:
        which = int(rng.choice(len(shapes), p=SHAPES))
        shape = shapes[which]
        return which, pick_captions(rng, len(shape.latents), shape.batch(plan.batch), shape.ids.shape[1])

    def loss_of(batch: tuple[int, np.ndarray], generator: torch.Generator) -> Tensor:
        shape = shapes[batch[0]]
        i, k, is_empty = torch.from_numpy(batch[1]).to(place.device).T
        captions = torch.where(is_empty[:, None] > 0, empty, shape.ids[i, k])
        return noise.loss(noise.guess(model, shape.latents[i], captions, generator), shape.weights[i])

    if not run.train(loss_of, make, budget):
        return False
    run.use_ema()
    write_checkpoint(place, model.unet, model.text)
    figures = {
        "parameters": count_parameters(model.unet),
        "text_parameters": count_parameters(model.text),
        "steps": run.steps,
        "batch": plan.batch,
    }
    place.write_card("diffusion", figures)
    return True


if __name__ == "__main__":
    single_run(__doc__, PLANS, train)
