"""IP-Adapter FaceID files of random weights for any UNet, for tests that need a file that loads and fits."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from demo.nets.unet import UNetModel
from lib_beyondfacial.unet.sites import adapter_order
from tests.random_model import CONTEXT_DIM, UNET


def site_widths() -> list[int]:
    """h of the random model's cross-attentions, in the order of adapter files."""
    with torch.device("meta"):
        modules = dict(UNetModel(**UNET).named_modules())
    return [modules[name].to_q.weight.shape[0] for name in adapter_order(n for n in modules if n.endswith("attn2"))]


def write_faceid_adapter(
    path: Path, context_dim: int = CONTEXT_DIM, widths: list[int] | None = None, seed: int = 1
) -> Path:
    """The FaceID layout without a LoRA: six projection tensors, to_k_ip and to_v_ip at odd N."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random) / shape[-1] ** 0.5

    tensors = {
        "image_proj.proj.0.weight": draw(1024, 512),
        "image_proj.proj.0.bias": draw(1024),
        "image_proj.proj.2.weight": draw(4 * context_dim, 1024),
        "image_proj.proj.2.bias": draw(4 * context_dim),
        "image_proj.norm.weight": torch.ones(context_dim),
        "image_proj.norm.bias": torch.zeros(context_dim),
    }
    for site, width in enumerate(site_widths() if widths is None else widths):
        for leaf in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{2 * site + 1}.{leaf}.weight"] = draw(width, context_dim)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path
