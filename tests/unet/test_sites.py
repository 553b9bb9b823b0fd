"""The numbering of attention sites, one by one, for SD1.5 and SDXL, in ldm's and diffusers' names."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from demo.nets.unet import UNetModel
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.unet.sites import adapter_order, attn1_twin, enumerate_sites, leaf_widths

SD15 = {  # N: (ldm block, diffusers block)
    1: ("input_blocks.1.1", "down_blocks.0.attentions.0"),
    3: ("input_blocks.2.1", "down_blocks.0.attentions.1"),
    5: ("input_blocks.4.1", "down_blocks.1.attentions.0"),
    7: ("input_blocks.5.1", "down_blocks.1.attentions.1"),
    9: ("input_blocks.7.1", "down_blocks.2.attentions.0"),
    11: ("input_blocks.8.1", "down_blocks.2.attentions.1"),
    13: ("output_blocks.3.1", "up_blocks.1.attentions.0"),
    15: ("output_blocks.4.1", "up_blocks.1.attentions.1"),
    17: ("output_blocks.5.1", "up_blocks.1.attentions.2"),
    19: ("output_blocks.6.1", "up_blocks.2.attentions.0"),
    21: ("output_blocks.7.1", "up_blocks.2.attentions.1"),
    23: ("output_blocks.8.1", "up_blocks.2.attentions.2"),
    25: ("output_blocks.9.1", "up_blocks.3.attentions.0"),
    27: ("output_blocks.10.1", "up_blocks.3.attentions.1"),
    29: ("output_blocks.11.1", "up_blocks.3.attentions.2"),
    31: ("middle_block.1", "mid_block.attentions.0"),
}
SDXL_RUNS = [  # first N, transformer blocks, ldm block, diffusers block
    (1, 2, "input_blocks.4.1", "down_blocks.1.attentions.0"),
    (5, 2, "input_blocks.5.1", "down_blocks.1.attentions.1"),
    (9, 10, "input_blocks.7.1", "down_blocks.2.attentions.0"),
    (29, 10, "input_blocks.8.1", "down_blocks.2.attentions.1"),
    (49, 10, "output_blocks.0.1", "up_blocks.0.attentions.0"),
    (69, 10, "output_blocks.1.1", "up_blocks.0.attentions.1"),
    (89, 10, "output_blocks.2.1", "up_blocks.0.attentions.2"),
    (109, 2, "output_blocks.3.1", "up_blocks.1.attentions.0"),
    (113, 2, "output_blocks.4.1", "up_blocks.1.attentions.1"),
    (117, 2, "output_blocks.5.1", "up_blocks.1.attentions.2"),
    (121, 10, "middle_block.1", "mid_block.attentions.0"),
]


def sd15(naming: int) -> dict[int, str]:
    return {n: f"{names[naming]}.transformer_blocks.0.attn2" for n, names in SD15.items()}


def sdxl(naming: int) -> dict[int, str]:
    return {
        first + 2 * t: f"{names[naming]}.transformer_blocks.{t}.attn2"
        for first, depth, *names in SDXL_RUNS
        for t in range(depth)
    }


@pytest.mark.parametrize("naming", [0, 1], ids=["ldm", "diffusers"])
@pytest.mark.parametrize(("table", "count"), [(sd15, 16), (sdxl, 70)], ids=["SD1.5", "SDXL"])
def test_every_site_has_its_number(table, count, naming):
    numbered = table(naming)
    assert sorted(numbered) == list(range(1, 2 * count, 2))
    names = list(numbered.values())
    random.Random(1).shuffle(names)
    for prefix in ("", "diffusion_model.", "model.diffusion_model."):
        ordered = adapter_order(prefix + name for name in names)
        for i, name in enumerate(ordered):
            assert name == prefix + numbered[2 * i + 1]


def widths_of(numbered: dict[int, str], width: Callable[[str], int]) -> dict[int, int]:
    return {n: width(name) for n, name in numbered.items()}


SD15_H = {n: 320 for n in (1, 3, 25, 27, 29)} | {n: 640 for n in (5, 7, 19, 21, 23)}
SD15_H |= {n: 1280 for n in (9, 11, 13, 15, 17, 31)}
SDXL_H = {n: 640 if n <= 7 or 109 <= n <= 119 else 1280 for n in range(1, 140, 2)}


def test_a_real_unet_in_ldms_names():
    """SD1.5 at its size, without its numbers."""
    with torch.device("meta"):
        modules = dict(
            UNetModel(320, (1, 2, 4, 4), 2, (1, 2, 4), num_heads=8, context_dim=768).named_modules(),
        )
    ordered = adapter_order(name for name in modules if name.endswith("attn2"))
    assert ordered == [sd15(0)[n] for n in range(1, 32, 2)]
    assert widths_of(sd15(0), lambda name: modules[name].to_q.out_features) == SD15_H


DIFFUSERS = {  # as in the published configurations
    "SD1.5": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "SDXL": {
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
    },
}


@pytest.mark.parametrize(("kind", "table", "expected"), [("SD1.5", sd15, SD15_H), ("SDXL", sdxl, SDXL_H)])
def test_a_real_unet_in_diffusers_names(kind, table, expected):
    """At its size, without its numbers; and diffusers counts its processors as adapter files number them."""
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**DIFFUSERS[kind])
    numbered, modules = table(1), dict(unet.named_modules())
    ordered = adapter_order(name for name in modules if name.endswith("attn2"))
    assert ordered == [numbered[n] for n in range(1, 2 * len(numbered), 2)]
    assert widths_of(numbered, lambda name: modules[name].to_q.out_features) == expected
    reference = [name.removesuffix(".processor") for name in unet.attn_processors]
    for n, name in numbered.items():
        assert (reference[n - 1], reference[n]) == (attn1_twin(name), name)


def test_twins():
    assert attn1_twin("middle_block.1.transformer_blocks.0.attn2") == "middle_block.1.transformer_blocks.0.attn1"
    with pytest.raises(ValueError, match="attn2"):
        attn1_twin("middle_block.1.transformer_blocks.0.attn1")


class PackedLinear(torch.nn.Module):
    """A linear layer of 4-bit weights: their shape is that of the bytes."""

    def __init__(self, linear: torch.nn.Linear, **widths: int):
        super().__init__()
        self.weight = torch.zeros(linear.weight.numel() // 2, 1, dtype=torch.uint8)
        for name, width in widths.items():
            setattr(self, name, width)


def test_a_quantised_layers_widths_are_its_own_word():
    linear = torch.nn.Linear(48, 32)
    assert leaf_widths(linear) == (48, 32)
    assert leaf_widths(PackedLinear(linear, in_features=48, out_features=32)) == (48, 32)
    fp8 = PackedLinear(linear)
    fp8.weight = linear.weight.to(torch.float8_e4m3fn)
    assert leaf_widths(fp8) == (48, 32)


def test_a_quantised_layer_that_hides_its_widths_is_refused():
    unet = UNetModel(32, (1, 2), 1, (1, 2), 4, 64)
    attn2 = unet.get_submodule("middle_block.1.transformer_blocks.0.attn2")
    attn2.to_k = PackedLinear(torch.nn.Linear(64, 64))
    with pytest.raises(BeyondFacialError, match="middle_block.*to_k.*PackedLinear.*quantised"):
        enumerate_sites(unet)


def test_names_outside_the_known_blocks_are_refused():
    with pytest.raises(ValueError, match="unknown layout"):
        adapter_order(["joint_blocks.0.attn2"])
