"""An SD 1.x checkpoint and the yaml beside it -> `LatentDiffusion`, in fp32 on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from demo.nets.unet import UNetModel
from demo.nets.vae import AutoencoderKL
from lib_beyondfacial.common import SHORT_HASH, hash_file

UNET_KEYS = (
    "model_channels channel_mult num_res_blocks attention_resolutions num_heads context_dim in_channels out_channels"
)
VAE_KEYS = "ch ch_mult num_res_blocks z_channels"


@dataclass(frozen=True)
class CheckpointInfo:
    filename: str
    shorthash: str

    @property
    def name_for_extra(self) -> str:
        return Path(self.filename).stem

    @property
    def title(self) -> str:
        return f"{Path(self.filename).name} [{self.shorthash}]"


class FrozenCLIPEmbedder(nn.Module):
    """Tokenizer and text model of a local folder."""

    def __init__(self, folder: Path):
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        self.tokenizer = CLIPTokenizer.from_pretrained(str(folder))
        self.transformer = CLIPTextModel(CLIPTextConfig.from_pretrained(str(folder)))


class DiagonalGaussian:
    """What `encode_first_stage` gives."""

    def __init__(self, mean: Tensor, logvar: Tensor):
        self.mean, self.std = mean, torch.exp(0.5 * logvar)

    def sample(self) -> Tensor:
        return self.mean + self.std * torch.randn(self.mean.shape)

    def mode(self) -> Tensor:
        return self.mean


class FirstStage(AutoencoderKL):
    def encode(self, x: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*super().encode(x))


class DiffusionWrapper(nn.Module):
    conditioning_key = "crossattn"

    def __init__(self, diffusion_model: UNetModel):
        super().__init__()
        self.diffusion_model = diffusion_model

    def forward(self, x: Tensor, t: Tensor, c_crossattn: list[Tensor], c_concat: list | None = None) -> Tensor:
        return self.diffusion_model(x, t, context=torch.cat(c_crossattn, 1))


class LatentDiffusion(nn.Module):
    """The model with the attributes A1111 gives it: `shared.sd_model`, `p.sd_model`."""

    is_sd1, is_sd2, is_sd3, is_sdxl, is_ssd, is_sdxl_inpaint = True, False, False, False, False, False
    cond_stage_key, parameterization, latent_channels, lowvram = "txt", "eps", 4, False
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, params: dict[str, Any], yaml_folder: Path):
        super().__init__()
        if params.get("parameterization", "eps") != "eps":
            raise ValueError(f"This model predicts {params['parameterization']!r}; only eps models can be run here.")
        unet, vae = params["unet_config"]["params"], params["first_stage_config"]["params"]["ddconfig"]
        self.model = DiffusionWrapper(UNetModel(**{key: unet[key] for key in UNET_KEYS.split() if key in unet}))
        self.first_stage_model = FirstStage(**{key: vae[key] for key in VAE_KEYS.split() if key in vae})
        version = Path(params["cond_stage_config"]["params"]["version"])
        clip_folder = version if version.is_absolute() or version.is_dir() else yaml_folder / version
        self.cond_stage_model: nn.Module = FrozenCLIPEmbedder(clip_folder)
        self.image_size = int(params.get("image_size", 64))
        self.scale_factor = float(params.get("scale_factor", 0.18215))
        start, end, steps = (
            params.get("linear_start", 0.00085),
            params.get("linear_end", 0.012),
            params.get("timesteps", 1000),
        )
        betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0).float(), persistent=False)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Strict, unlike the big hosts: a missing or surplus key of the three networks is an error."""
        parts = {
            "model.diffusion_model.": self.model.diffusion_model,
            "first_stage_model.": self.first_stage_model,
            "cond_stage_model.transformer.": self.cond_stage_model.transformer,
        }
        for prefix, module in parts.items():
            named = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            module.load_state_dict({k: v for k, v in named.items() if not k.endswith("position_ids")}, strict=True)

    def apply_model(self, x: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        return self.model(x, t, **cond)

    @torch.no_grad()
    def get_learned_conditioning(self, texts: list[str]) -> Tensor:
        return self.cond_stage_model(texts)

    @torch.no_grad()
    def encode_first_stage(self, x: Tensor) -> DiagonalGaussian:
        return self.first_stage_model.encode(x)

    def get_first_stage_encoding(self, posterior: DiagonalGaussian | Tensor) -> Tensor:
        return self.scale_factor * (posterior if isinstance(posterior, Tensor) else posterior.sample())

    @torch.no_grad()
    def decode_first_stage(self, z: Tensor) -> Tensor:
        return self.first_stage_model.decode(z / self.scale_factor)


def find_checkpoints(models_path: Path) -> list[Path]:
    return sorted((models_path / "Stable-diffusion").glob("*.safetensors"))


def load_model(models_path: Path) -> LatentDiffusion:
    """The first checkpoint of `models_path`/Stable-diffusion."""
    from safetensors.torch import load_file

    path = next(iter(find_checkpoints(models_path)), None)
    if path is None:
        raise FileNotFoundError(f"There is no .safetensors checkpoint in {models_path / 'Stable-diffusion'}.")
    config = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))
    model = LatentDiffusion(config["model"]["params"], path.parent)
    model.load(load_file(path))
    model.sd_checkpoint_info = CheckpointInfo(str(path), hash_file(path)[:SHORT_HASH])
    model.sd_model_hash = model.sd_checkpoint_info.shorthash
    return model.eval().requires_grad_(False)
