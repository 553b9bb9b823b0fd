"""Train UNet and text model together on the VAE's latents: `python -m demo.dollhouse.train.diffusion`.

eps-prediction, SD's own beta schedule, min-SNR-5 weights, one caption in ten left empty. Writes the SD 1.x checkpoint
and its yaml. Latents and tokenised captions lie on the device: a step waits for no disk and no other process.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo.dollhouse.train.decoder import latents_of
from demo.dollhouse.train.drawing import training_pictures
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, single_run
from demo.dollhouse.train.text import caption_ids, empty_ids, make_text_model, write_tokenizer
from demo.nets.unet import UNetModel
from demo.nets.vae import count_parameters

# A step of 256 pictures takes a GPU hardly longer than one of 64; a CPU learns more from many small steps.
PLANS = {"cpu": Plan(12000, 16, 1e-3, muon=True), "cuda": Plan(40000, 256, 1e-3)}
EMPTY = 0.1  # of the captions, for CFG
COARSE, COARSE_WEIGHT = 4, 6.0  # px of the error's thumbnail: what decides a scene's colours
HEAD = 3.0  # weight of the error inside the head's box
# 6.7 M parameters, 7 cross-attentions. Full resolution has no attention: at 24 x 24 latents a row then costs a CPU
# half as much (27 against 48 ms). It must not have as few as 32 channels: SD's norms have 32 groups, a group of one
# channel has no mean left, and the picture's colours went wrong (scenes right in 80%).
UNET = {"model_channels": 64, "channel_mult": [1, 2, 2], "attention_resolutions": [4, 2]}
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
    image_size: {latent}
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
        model_channels: {model_channels}
        attention_resolutions: {attention_resolutions}
        num_res_blocks: 1
        channel_mult: {channel_mult}
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
          resolution: {size}
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
    """The two networks that are trained together."""

    def __init__(self, place: Place):
        super().__init__()
        self.unet, self.text = UNetModel(**UNET), make_text_model(place.clip)
        nn.init.zeros_(self.unet.out[2].weight)
        nn.init.zeros_(self.unet.out[2].bias)

    def cond(self, ids: Tensor) -> Tensor:
        return self.text(ids.long())


class Noise:
    """What a training step draws on the device: timesteps and noise; and the loss on them."""

    def __init__(self, place: Place):
        self.place, self.abar = place, alphas_cumprod().to(place.device)

    def loss(
        self, model: TextToLatent, z: Tensor, ids: Tensor, generator: torch.Generator, weight: Tensor | None = None
    ) -> Tensor:
        """Weighted squared error of eps at random timesteps: weight min(SNR, 5) / SNR, and `weight` (B, h, w)."""
        t = torch.randint(0, 1000, (len(z),), generator=generator, device=z.device)
        noise = torch.randn(z.shape, generator=generator, device=z.device)
        a = self.abar[t][:, None, None, None]
        with self.place.autocast():
            eps = model.unet(a.sqrt() * z + (1 - a).sqrt() * noise, t, model.cond(ids))
        snr = self.abar[t] / (1 - self.abar[t])
        error = ((eps.float() - noise) ** 2).mean(1)
        if weight is not None:
            error = error * weight / weight.mean()
        coarse = F.adaptive_avg_pool2d(eps.float() - noise, COARSE) ** 2
        error = error.mean((1, 2)) + COARSE_WEIGHT * coarse.mean((1, 2, 3))
        return (error * snr.clamp(max=5) / snr).mean()


def head_weights(truths: list, size: int, latent: int) -> Tensor:
    """(n, latent, latent): HEAD where a latent lies in the head's box, else 1. A full shot's head is one latent in
    twenty; without this its looks are learnt last."""
    weights = torch.ones(len(truths), latent, latent)
    for one, (_, truth) in zip(weights, truths, strict=True):
        x0, y0, x1, y1 = (round(float(np.clip(v * latent / size, 0, latent))) for v in truth.head_box)
        one[y0:y1, x0:x1] = HEAD
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


def write_checkpoint(place: Place, model: TextToLatent) -> None:
    place.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
    state |= {f"first_stage_model.{k}": v for k, v in load_file(place.vae).items()}
    state |= {f"cond_stage_model.transformer.{k}": v for k, v in model.text.state_dict().items()}
    save_file({k: v.half().cpu().contiguous() for k, v in state.items()}, place.checkpoint)
    yaml = YAML.format(size=place.size, latent=place.latent, **UNET)
    place.checkpoint.with_suffix(".yaml").write_text(yaml, encoding="utf-8")


def begin_with(model: TextToLatent, state: dict[str, Tensor]) -> None:
    """The text model of a checkpoint, and its UNet where it is of the same shape."""
    for prefix, part in (("model.diffusion_model.", model.unet), ("cond_stage_model.transformer.", model.text)):
        theirs = {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}
        if {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in part.state_dict().items()}:
            part.load_state_dict(theirs)


def load_base(place: Place) -> TextToLatent:
    """The checkpoint's UNet and text model, frozen."""
    state = {k: v.float() for k, v in load_file(place.checkpoint).items()}
    model = TextToLatent(place)
    for prefix, part in (("model.diffusion_model.", model.unet), ("cond_stage_model.transformer.", model.text)):
        part.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return place.put(model.requires_grad_(False))


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED) -> bool:
    write_tokenizer(place.clip)
    images, truths = training_pictures(place)
    latents, ids = latents_of(place, images), caption_ids(place, [p for p, _ in truths], seed=21)
    weights = head_weights(truths, place.size, place.latent).to(place.device)
    torch.manual_seed(0)
    model = TextToLatent(place)
    first = place.cache / "base_first.safetensors"  # (warm.py)
    if first.exists():
        begin_with(model, load_file(first))
    model, noise, empty = place.put(model), Noise(place), empty_ids(place).to(torch.int16)
    run = Run(place, "diffusion", model, plan)

    def make(rng: np.random.Generator) -> np.ndarray:
        return pick_captions(rng, len(latents), plan.batch, ids.shape[1])

    def loss_of(batch: np.ndarray, generator: torch.Generator) -> Tensor:
        i, k, is_empty = torch.from_numpy(batch).to(place.device).T
        captions = torch.where(is_empty[:, None] > 0, empty, ids[i, k])
        return noise.loss(model, latents[i], captions, generator, weights[i])

    if not run.train(loss_of, make, budget):
        return False
    run.use_ema()
    write_checkpoint(place, model)
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
