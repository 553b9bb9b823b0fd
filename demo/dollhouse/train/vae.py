"""Train the autoencoder: `python -m demo.dollhouse.train.vae`.

Most steps see 64 px crops (half of them round the head, where the identity is), the last part whole pictures.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from demo.dollhouse.train.common import CACHE, Run, drawn_pictures, to_tensor, write_card
from demo.nets.vae import AutoencoderKL, count_parameters

KL_WEIGHT = 2e-4


def crops(images: np.ndarray, truths: list, rng: np.random.Generator, n: int, size: int) -> Tensor:
    out = np.empty((n, size, size, 3), np.uint8)
    limit = images.shape[1] - size
    for k, i in enumerate(rng.integers(len(images), size=n)):
        x0, y0, x1, y1 = truths[i][1].head_box
        if k % 2:
            x, y = (x0 + x1) / 2 - size / 2 + rng.uniform(-10, 10), (y0 + y1) / 2 - size / 2 + rng.uniform(-10, 10)
        else:
            x, y = rng.uniform(0, limit + 1, 2)
        x, y = int(np.clip(x, 0, limit)), int(np.clip(y, 0, limit))
        out[k] = images[i, y : y + size, x : x + size]
    return to_tensor(out)


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


SCALE_FACTOR = 0.18215


@torch.no_grad()
def encode_means(model: AutoencoderKL, images: np.ndarray, batch: int = 16) -> Tensor:
    return torch.cat([model.encode(to_tensor(images[i : i + batch]))[0] for i in range(0, len(images), batch)])


@torch.no_grad()
def fold_scale(model: AutoencoderKL, means: Tensor) -> None:
    """Shift and scale the latent channels inside the 1x1 convolutions: SD's own factor then gives unit variance."""
    shift, scale = means.mean((0, 2, 3)), 1 / (SCALE_FACTOR * means.std((0, 2, 3)))
    out, back = model.quant_conv, model.post_quant_conv
    n = len(shift)
    out.weight[:n] *= scale[:, None, None, None]
    out.bias[:n] = (out.bias[:n] - shift) * scale
    out.bias[n:] += 2 * scale.log()
    back.bias += (back.weight[:, :, 0, 0] * shift).sum(1)
    back.weight /= scale[None, :, None, None]


def picture_loss(x: Tensor, y: Tensor) -> Tensor:
    """Absolute, squared and gradient differences of pictures."""
    edges = sum((a - b).abs().mean() for a, b in zip(gradients(x), gradients(y), strict=True))
    return (x - y).abs().mean() + 0.5 * ((x - y) ** 2).mean() + 0.5 * edges


@torch.no_grad()
def held_out_figures(model: AutoencoderKL) -> dict[str, float]:
    """PSNR of reconstructions of 400 pictures that no training saw, whole and inside the head's box."""
    held, truths = drawn_pictures(400, seed=2)
    means = encode_means(model, held)
    back = torch.cat([model.decode(means[i : i + 16]) for i in range(0, 400, 16)]).clamp(-1, 1)
    error = ((back - to_tensor(held)) / 2) ** 2
    inside = torch.zeros(400, 1, 128, 128)
    for i, (_, truth) in enumerate(truths):
        x0, y0, x1, y1 = (int(np.clip(v, 0, 128)) for v in truth.head_box)
        inside[i, :, y0:y1, x0:x1] = 1
    in_head = (error * inside).sum() / (inside.sum() * 3)
    psnr, psnr_head = (round(float(-10 * torch.log10(e)), 2) for e in (error.mean(), in_head))
    return {"psnr": psnr, "psnr_head": psnr_head, "latent_std": round(float(means.std() * SCALE_FACTOR), 4)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--whole", type=float, default=0.1, help="share of the steps, at the end, on whole pictures")
    args = parser.parse_args()
    torch.manual_seed(0)
    images, truths = drawn_pictures(20000, seed=1)
    model = AutoencoderKL()
    run = Run("vae", model, args.steps, lr=1.5e-3, ema=0.99)

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        whole = run.step >= args.steps * (1 - args.whole)
        x = crops(images, truths, rng, 5 if whole else 16, 128 if whole else 64)
        mean, logvar = model.encode(x)
        z = mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=generator)
        y = model.decode(z)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return picture_loss(x, y) + KL_WEIGHT * kl

    run.train(loss_of, log_every=25)
    run.use_ema()
    model.eval()
    fold_scale(model, encode_means(model, images[:1000]))
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, CACHE / "vae.safetensors")
    figures = {"parameters": count_parameters(model), "steps": args.steps, **held_out_figures(model)}
    write_card("vae", figures)


if __name__ == "__main__":
    main()
