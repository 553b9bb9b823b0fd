"""Train UNet and text model together on the VAE's latents: `python -m demo.dollhouse.train.diffusion`.

eps-prediction, SD's own beta schedule, min-SNR-5 weights, one caption in ten left empty. Writes the SD 1.x checkpoint
and its yaml.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from demo.dollhouse.train.common import CACHE, SIZE, WEIGHTS, Run, drawn_pictures, write_card
from demo.dollhouse.train.text import FOLDER, make_text_model, tokenize, write_tokenizer
from demo.dollhouse.train.vae import SCALE_FACTOR, encode_means
from demo.dollhouse.world import caption
from demo.nets.unet import UNetModel
from demo.nets.vae import AutoencoderKL, count_parameters

CHECKPOINT = WEIGHTS / "models" / "Stable-diffusion" / "dollhouse.safetensors"
YAML = """\
# SD 1.x model config of the Dollhouse checkpoint, read by the embedded host and by A1111.
# `version` is the tokenizer folder: relative to this file in the embedded host; A1111 wants an absolute path
# (docs/hosts.md).
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: 0.0120
    timesteps: 1000
    first_stage_key: jpg
    cond_stage_key: txt
    image_size: 16
    channels: 4
    conditioning_key: crossattn
    scale_factor: 0.18215
    use_ema: False
    parameterization: eps
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 32
        in_channels: 4
        out_channels: 4
        model_channels: 64
        attention_resolutions: [4, 2, 1]
        num_res_blocks: 1
        channel_mult: [1, 2, 2]
        num_heads: 4
        use_spatial_transformer: True
        transformer_depth: 1
        context_dim: 128
        use_checkpoint: False
        legacy: False
    first_stage_config:
      target: ldm.models.autoencoder.AutoencoderKL
      params:
        embed_dim: 4
        ddconfig:
          double_z: true
          z_channels: 4
          resolution: 128
          in_channels: 3
          out_ch: 3
          ch: 32
          ch_mult: [1, 1, 2, 4]
          num_res_blocks: 1
          attn_resolutions: []
          dropout: 0.0
        lossconfig:
          target: torch.nn.Identity
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
      params:
        version: ../../clip
"""


def alphas_cumprod() -> Tensor:
    betas = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


class TextToLatent(nn.Module):
    def __init__(self):
        super().__init__()
        self.unet, self.text = UNetModel(channel_mult=(1, 2, 2)), make_text_model()
        nn.init.zeros_(self.unet.out[2].weight)
        nn.init.zeros_(self.unet.out[2].bias)

    def cond(self, ids: Tensor) -> Tensor:
        return self.text(ids).last_hidden_state


def load_vae() -> AutoencoderKL:
    model = AutoencoderKL()
    model.load_state_dict({k: v.float() for k, v in load_file(CACHE / "vae.safetensors").items()})
    return model.eval()


def latents_of(n: int, seed: int, first: int) -> tuple[Tensor, list]:
    """Scaled latents (first, 4, 16, 16) of the first of the n drawn pictures, cached, and their truths."""
    images, truths = drawn_pictures(n, seed)
    path = CACHE / f"latents_{n}_{seed}_{first}_{SIZE}.pt"
    if not path.exists():
        torch.save(encode_means(load_vae(), images[:first]) * SCALE_FACTOR, path)
    return torch.load(path, weights_only=True), truths[:first]


def eps_loss(model: TextToLatent, z: Tensor, ids: Tensor, abar: Tensor, generator: torch.Generator) -> Tensor:
    """Weighted squared error of eps at random timesteps: weight min(SNR, 5) / SNR."""
    t = torch.randint(0, 1000, (len(z),), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    a = abar[t][:, None, None, None]
    eps = model.unet(a.sqrt() * z + (1 - a).sqrt() * noise, t, model.cond(ids))
    snr = abar[t] / (1 - abar[t])
    return (((eps - noise) ** 2).mean((1, 2, 3)) * snr.clamp(max=5) / snr).mean()


@torch.no_grad()
def sample(
    model: TextToLatent, ids: Tensor, empty: Tensor, noise: Tensor, cfg: float = 5.0, steps: int = 20
) -> Tensor:
    """Plain DDIM, for a look at the result."""
    abar = alphas_cumprod()
    cond, uncond = model.cond(ids), model.cond(empty)
    ts = torch.linspace(999, 0, steps + 1).round().long()
    x = noise
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        both = model.unet(torch.cat([x, x]), t.expand(2 * len(x)), torch.cat([cond, uncond]))
        eps_cond, eps_uncond = both.chunk(2)
        eps = eps_uncond + cfg * (eps_cond - eps_uncond)
        denoised = (x - (1 - abar[t]).sqrt() * eps) / abar[t].sqrt()
        x = abar[s].sqrt() * denoised + (1 - abar[s]).sqrt() * eps
    return x


def write_checkpoint(model: TextToLatent) -> None:
    CHECKPOINT.parent.mkdir(parents=True, exist_ok=True)
    state = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
    state |= {f"first_stage_model.{k}": v for k, v in load_file(CACHE / "vae.safetensors").items()}
    state |= {
        f"cond_stage_model.transformer.{k}": v for k, v in model.text.state_dict().items() if "position_ids" not in k
    }
    save_file({k: v.half().contiguous() for k, v in state.items()}, CHECKPOINT)
    CHECKPOINT.with_suffix(".yaml").write_text(YAML)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3450)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--export", action="store_true", help="write the checkpoint from the last saved state and stop"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    write_tokenizer()
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER)
    abar, model = alphas_cumprod(), TextToLatent()
    run = Run("diffusion", model, args.steps, lr=8e-4, ema=0.998)
    if not args.export:
        latents, truths = latents_of(20000, seed=1, first=12000)

        def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
            picked = rng.integers(len(latents), size=args.batch)
            texts = ["" if rng.random() < 0.1 else caption(truths[i][0], rng) for i in picked]
            return eps_loss(model, latents[picked], tokenize(texts, tokenizer), abar, generator)

        run.train(loss_of, log_every=50)
    run.use_ema()
    write_checkpoint(model)
    figures = {
        "parameters": count_parameters(model.unet),
        "text_parameters": count_parameters(model.text),
        "steps": run.step,
        "batch": args.batch,
    }
    write_card("diffusion", figures)


if __name__ == "__main__":
    main()
