"""Sharpen the autoencoder's decoder on fixed latents: `python -m demo.dollhouse.train.decoder`.

The encoder stays, so the latents stay, and with them everything that was trained on them. Updates the checkpoint, if
there is one.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.dollhouse.train.common import CACHE, Run, drawn_pictures, to_tensor, write_card
from demo.dollhouse.train.diffusion import CHECKPOINT, SCALE_FACTOR, latents_of, load_vae
from demo.dollhouse.train.vae import held_out_figures, picture_loss

PATCH = 8  # latent px of a crop: 64 px of picture


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--whole", type=float, default=0.3, help="share of the steps, at the end, on whole pictures")
    args = parser.parse_args()
    torch.manual_seed(0)
    images, _ = drawn_pictures(20000, seed=1)
    latents, truths = latents_of(20000, seed=1, first=12000)
    model = load_vae()
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    run = Run("decoder", model, args.steps, lr=1e-3, ema=0.99)

    def crop(i: int, k: int, rng: np.random.Generator) -> tuple[slice, slice]:
        """Latent rows and columns; every other crop holds the head."""
        x0, y0, x1, y1 = truths[i][1].head_box
        x, y = ((x0 + x1) / 16 - PATCH / 2, (y0 + y1) / 16 - PATCH / 2) if k % 2 else rng.uniform(0, 9, 2)
        x, y = (int(np.clip(round(v + rng.uniform(-1, 1)), 0, 16 - PATCH)) for v in (x, y))
        return slice(y, y + PATCH), slice(x, x + PATCH)

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        whole = run.step >= args.steps * (1 - args.whole)
        picked = rng.integers(len(latents), size=6 if whole else 20)
        z, x = [], []
        for k, i in enumerate(picked):
            rows, columns = (slice(0, 16), slice(0, 16)) if whole else crop(i, k, rng)
            z.append(latents[i, :, rows, columns])
            x.append(images[i, 8 * rows.start : 8 * rows.stop, 8 * columns.start : 8 * columns.stop])
        noise = 0.02 * torch.randn(len(z), *z[0].shape, generator=generator)
        return picture_loss(to_tensor(np.stack(x)), model.decode((torch.stack(z) + noise) / SCALE_FACTOR))

    run.train(loss_of, log_every=25)
    run.use_ema()
    model.eval()
    state = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    save_file(state, CACHE / "vae.safetensors")
    if CHECKPOINT.exists():
        kept = {k: v.clone() for k, v in load_file(CHECKPOINT).items() if not k.startswith("first_stage_model.")}
        save_file(kept | {f"first_stage_model.{k}": v for k, v in state.items()}, CHECKPOINT)
    write_card("decoder", {"steps": run.step, **held_out_figures(model)})


if __name__ == "__main__":
    main()
