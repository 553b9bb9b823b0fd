"""The SD 1.x checkpoint of UNet, text model and autoencoder, and the yaml beside it."""

from __future__ import annotations

from safetensors.torch import load_file, save_file
from torch import nn

from demo.dollhouse.train.place import Place

# 6.7 M parameters, 7 cross-attentions. Full resolution has no attention: at 24 x 24 latents a row then costs a CPU
# half as much (27 against 48 ms). It must not have as few as 32 channels: SD's norms have 32 groups, a group of one
# channel has no mean left, and the picture's colours went wrong (scenes right in 80%).
UNET = {"model_channels": 64, "channel_mult": [1, 2, 2], "attention_resolutions": [4, 2]}
YAML = """\
# SD 1.x model config of the Dollhouse checkpoint, read by the embedded host and by A1111.
# `version` is the tokenizer folder: relative to this file in the embedded host; A1111 wants an absolute path
# (docs/hosts/a1111.md).
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


def write_checkpoint(place: Place, unet: nn.Module, text: nn.Module) -> None:
    place.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = {f"model.diffusion_model.{k}": v for k, v in unet.state_dict().items()}
    state |= {f"first_stage_model.{k}": v for k, v in load_file(place.vae).items()}
    state |= {f"cond_stage_model.transformer.{k}": v for k, v in text.state_dict().items()}
    save_file({k: v.half().cpu().contiguous() for k, v in state.items()}, place.checkpoint)
    yaml = YAML.format(size=place.size, latent=place.latent, **UNET)
    place.checkpoint.with_suffix(".yaml").write_text(yaml, encoding="utf-8")
