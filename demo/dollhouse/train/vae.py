"""Train the autoencoder: `python -m demo.dollhouse.train.vae`.

Most steps see crops of a third of a side, most of these round the head, where the identity is; the last part whole
pictures. Once the feeding recogniser is trained, faces must also look alike to it, for a squared difference hardly
sees the eyes of a head of five latent pixels. (Never to the judge or the evaluator: they measure the result.)
"""

from __future__ import annotations

import contextlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo.dollhouse.train.common import Pictures, picture_loss, to_float, to_tensor
from demo.dollhouse.train.drawing import drawn_pictures, training_pictures
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.recogniser import load_feed
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, quiet_worker, single_run
from demo.nets.vae import AutoencoderKL, count_parameters

PLANS = {"cpu": Plan(6000, 16, 1.5e-3, muon=True), "cuda": Plan(20000, 48, 1.2e-3)}
PART = 256  # pictures that a process encodes at a time
KL_WEIGHT, SCALE_FACTOR = 2e-4, 0.18215
CROPS = 3  # to a side, of most steps
WHOLE = 0.15  # of the steps, at the end, on whole pictures
ALIKE = 0.3  # weight of looking alike to the recogniser: about a fifth of the loss once pictures are sharp


@torch.no_grad()
def encode_means(model: AutoencoderKL, images: np.ndarray, device: torch.device) -> Tensor:
    """Unscaled latents of pictures (n, H, W, 3) uint8, on the CPU."""
    parts, batch = [], 4 if device.type == "cpu" else 32  # a CPU's caches hold four pictures' features
    for i in range(0, len(images), batch):
        x = to_float(torch.from_numpy(np.ascontiguousarray(images[i : i + batch])).to(device))
        parts.append(model.encode(x)[0].float().cpu())
    return torch.cat(parts)


def _means_of(state: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Arrays travel between processes as they are; tensors would need shared memory, which may be small."""
    quiet_worker(0)
    model = AutoencoderKL()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    return encode_means(model, images, torch.device("cpu")).numpy()


def encode_on_all_cores(place: Place, model: AutoencoderKL, images: np.ndarray) -> Tensor:
    """As `encode_means`; on a CPU the pictures are shared out among as many processes as draw."""
    if place.on_gpu or place.workers < 2 or len(images) < 2 * PART:
        with place.autocast() if place.bf16 else contextlib.nullcontext():
            return encode_means(model, images, place.device)
    work = partial(_means_of, {k: v.numpy() for k, v in model.state_dict().items()})
    parts = [images[i : i + PART] for i in range(0, len(images), PART)]
    with ProcessPoolExecutor(place.workers, multiprocessing.get_context("fork")) as pool:
        return torch.from_numpy(np.concatenate(list(pool.map(work, parts))))


@torch.no_grad()
def fold_scale(model: AutoencoderKL, means: Tensor) -> None:
    """Shift and scale the latent channels inside the 1x1 convolutions: SD's own factor then gives unit variance."""
    means = means.to(model.quant_conv.weight.device)
    shift, scale = means.mean((0, 2, 3)), 1 / (SCALE_FACTOR * means.std((0, 2, 3)))
    out, back = model.quant_conv, model.post_quant_conv
    n = len(shift)
    out.weight[:n] *= scale[:, None, None, None]
    out.bias[:n] = (out.bias[:n] - shift) * scale
    out.bias[n:] += 2 * scale.log()
    back.bias += (back.weight[:, :, 0, 0] * shift).sum(1)
    back.weight /= scale[None, :, None, None]


def crop_side(place: Place) -> int:
    """px of most steps' crops, a multiple of the latents' 8."""
    return place.size // CROPS // 8 * 8


class Likeness:
    """1 - cosine of what the feeding recogniser makes of the faces in two sets of crops; 0 until there is one."""

    def __init__(self, place: Place):
        self.net = load_feed(place, soft=False)

    def __call__(self, pictures: Pictures, x: Tensor, y: Tensor, places: Tensor) -> Tensor | float:
        if self.net is None:
            return 0.0
        (wanted, is_inside), (rebuilt, _) = pictures.faces(x, places), pictures.faces(y, places)
        with torch.no_grad():
            wanted = self.net(wanted)
        off = 1 - F.cosine_similarity(wanted.float(), self.net(rebuilt).float())
        return (off * is_inside).mean()


@torch.no_grad()
def held_out_figures(place: Place, model: AutoencoderKL, n: int = 400) -> dict[str, float]:
    """PSNR of reconstructions of pictures that no training saw, whole and inside the head's box."""
    held_out_pictures, truths = drawn_pictures(place, min(n, place.amounts.held_out), seed=2)
    device, s, errors = place.device, place.size, []
    means = encode_means(model, held_out_pictures, device)
    for i in range(0, len(held_out_pictures), 16):
        back = model.decode(means[i : i + 16].to(device)).clamp(-1, 1).cpu()
        errors.append((((back - to_tensor(held_out_pictures[i : i + 16])) / 2) ** 2).mean(1))
    error, inside = torch.cat(errors), torch.zeros(len(held_out_pictures), s, s)
    for i, (_, truth) in enumerate(truths):
        x0, y0, x1, y1 = (int(np.clip(v, 0, s)) for v in truth.head_box)
        inside[i, y0:y1, x0:x1] = 1
    is_full = torch.tensor([p.shot == "full" for p, _ in truths])[:, None, None]
    figures = {"latent_std": round(float(means.std() * SCALE_FACTOR), 4)}
    for name, where in (("psnr", torch.ones(1)), ("psnr_head", inside), ("psnr_head_full", inside * is_full)):
        mean = (error * where).sum() / where.expand(error.shape).sum().clamp(min=1)
        figures[name] = round(float(-10 * torch.log10(mean)), 2)
    return figures


def save_half(model: nn.Module, path: Path) -> None:
    save_file({k: v.half().cpu().contiguous() for k, v in model.state_dict().items()}, path)


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED) -> bool:
    images, truths = training_pictures(place)
    pictures, likeness = Pictures(images, truths, place.device), Likeness(place)
    torch.manual_seed(0)
    model = AutoencoderKL()
    first = place.cache / "vae_first.safetensors"  # (warm.py)
    if first.exists():
        model.load_state_dict({k: v.float() for k, v in load_file(first).items()})
    model = place.put(model)
    run = Run(place, "vae", model, plan)
    part = crop_side(place)

    def make(rng: np.random.Generator) -> dict[int, np.ndarray]:
        return {
            part: pictures.places(rng, plan.batch, part),
            place.size: pictures.places(rng, plan.batch // 6 or 1, place.size),
        }

    def loss_of(batch: dict[int, np.ndarray], generator: torch.Generator) -> Tensor:
        size = place.size if run.step >= run.steps * (1 - WHOLE) else part
        places = torch.from_numpy(batch[size]).to(place.device)
        x = pictures.cut(places, size)
        with place.autocast():
            mean, logvar = (v.float() for v in model.encode(x))
            noise = torch.randn(mean.shape, generator=generator, device=place.device)
            y = model.decode(mean + torch.exp(0.5 * logvar) * noise)
            alike = likeness(pictures, x, y.float(), places)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return picture_loss(x, y.float(), pictures.weight(places, size)) + ALIKE * alike + KL_WEIGHT * kl

    if not run.train(loss_of, make, budget):
        return False
    run.use_ema()
    model.eval()
    fold_scale(model, encode_means(model, images[:1000], place.device))
    (place.cache / "vae_sharp.safetensors").unlink(missing_ok=True)
    save_half(model, place.cache / "vae.safetensors")
    figures = {"parameters": count_parameters(model), "steps": run.steps, "batch": plan.batch}
    place.write_card("vae", {**figures, **held_out_figures(place, model)})
    return True


if __name__ == "__main__":
    single_run(__doc__, PLANS, train)
