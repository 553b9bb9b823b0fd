"""A tiny SD 1.x checkpoint of random weights in A1111's layout, for tests that need a host but no pictures."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from demo.nets.unet import UNetModel
from demo.nets.vae import AutoencoderKL

MERGES = (
    "p h;o t;ph ot;phot o</w>;m a;ma n</w>;f a;c e</w>;fa ce</w>;i n</w>;t h;th e</w>;h a;ha i;hai r</w>;r e;re d</w>"
)
CONTEXT_DIM = 64
UNET = {
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [2, 1],
    "num_heads": 4,
}
UNET |= {"context_dim": CONTEXT_DIM, "in_channels": 4, "out_channels": 4}
VAE = {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "z_channels": 4}


def byte_characters() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def write_clip_folder(folder: Path) -> None:
    """vocab.json, merges.txt and the configurations: all 512 characters and a few merges."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = MERGES.split(";")
    tokens = byte_characters()
    tokens = [*tokens, *(c + "</w>" for c in tokens), *dict.fromkeys(m.replace(" ", "") for m in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    size = len(tokens)
    special = {"bos_token": tokens[-2], "eos_token": tokens[-1], "unk_token": tokens[-1], "pad_token": tokens[-1]}
    config = {"model_type": "clip_text_model", "architectures": ["CLIPTextModel"], "vocab_size": size}
    config |= {"hidden_size": CONTEXT_DIM, "intermediate_size": 2 * CONTEXT_DIM, "projection_dim": CONTEXT_DIM}
    config |= {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
    }
    config |= {"layer_norm_eps": 1e-5, "bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    files = {
        "vocab.json": {token: i for i, token in enumerate(tokens)},
        "config.json": config,
        "special_tokens_map.json": special,
    }
    files["tokenizer_config.json"] = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def write_yaml(path: Path, clip_folder: str) -> None:
    params = {"linear_start": 0.00085, "linear_end": 0.012, "timesteps": 1000, "conditioning_key": "crossattn"}
    params |= {"parameterization": "eps", "scale_factor": 0.18215, "use_ema": False, "image_size": 8}
    unet = {"use_spatial_transformer": True, "transformer_depth": 1, "legacy": False, **UNET}
    params["unet_config"] = {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet}
    vae = {
        "double_z": True,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "attn_resolutions": [],
        "dropout": 0.0,
        **VAE,
    }
    params["first_stage_config"] = {"target": "ldm.models.autoencoder.AutoencoderKL"}
    params["first_stage_config"]["params"] = {
        "embed_dim": 4,
        "ddconfig": vae,
        "lossconfig": {"target": "torch.nn.Identity"},
    }
    params["cond_stage_config"] = {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"}
    params["cond_stage_config"]["params"] = {"version": clip_folder}
    document = {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def write_random_model(models_dir: Path, name: str = "random", seed: int = 0) -> Path:
    """Stable-diffusion/{name}.safetensors and .yaml, and clip/, in models_dir; gives back the checkpoint's path."""
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = models_dir / "Stable-diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    write_clip_folder(models_dir / "clip")
    write_yaml(folder / f"{name}.yaml", "../clip")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {
            "model.diffusion_model.": UNetModel(**UNET),
            "first_stage_model.": AutoencoderKL(**VAE),
            "cond_stage_model.transformer.": CLIPTextModel(CLIPTextConfig.from_pretrained(str(models_dir / "clip"))),
        }
        vae, text = parts["first_stage_model."], parts["cond_stage_model.transformer."]
        with torch.no_grad():
            vae.quant_conv.weight[4:], vae.quant_conv.bias[4:] = 0, -30  # the posterior has no spread
            text.text_model.final_layer_norm.bias.normal_(0.2, 0.1)  # emphasis divides by the mean
    weights = {prefix + key: value for prefix, module in parts.items() for key, value in module.state_dict().items()}
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"
