"""Equal to diffusers: the projection, and the branch in a whole tiny UNet, with and without the LoRA."""

from __future__ import annotations

import copy

import pytest
import torch

from lib_beyondfacial.adapters.branch import IdentityBranch
from lib_beyondfacial.adapters.checkpoints import describe
from lib_beyondfacial.adapters.projections import FaceInput, project_identity
from lib_beyondfacial.adapters.sites import Site, adapter_order, attn1_twin

diffusers = pytest.importorskip("diffusers")
CONTEXT = 24
SHAPES = {
    "like SD1.5": {
        "block_out_channels": (16, 32, 32),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
    },
    "like SDXL": {
        "block_out_channels": (16, 32, 48),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (2, 4, 6),
        "transformer_layers_per_block": (1, 2, 3),
        "use_linear_projection": True,
    },
}


def make_unet(shape: str):
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, cross_attention_dim=CONTEXT, norm_num_groups=8, **SHAPES[shape]
    )
    return unet.eval()


def list_sites(unet) -> list[Site]:
    modules = dict(unet.named_modules())
    names = adapter_order(name for name in modules if name.endswith("attn2"))
    return [Site(n, modules[n].to_q.out_features, modules[n].heads, modules[n].to_k.in_features) for n in names]


def attach(unet, branch: IdentityBranch, weight: float) -> None:
    """The leaf hooks of the identity line, as a host attaches them."""
    for i, site in enumerate(branch.sites):
        for kind, name in (("attn1", attn1_twin(site.name)), ("attn2", site.name)):
            attention = unet.get_submodule(name)
            for leaf in ("to_q", "to_k", "to_v", "to_out.0"):
                lora = branch.lora(kind, i, leaf)
                if lora is not None:
                    attention.get_submodule(leaf).register_forward_hook(
                        lambda _m, inputs, out, lora=lora: out + lora.delta(inputs[0])
                    )
        attach_branch(unet.get_submodule(site.name), branch, i, weight)


def attach_branch(attention, branch: IdentityBranch, site: int, weight: float) -> None:
    kept = {}
    attention.to_q.register_forward_hook(lambda _m, _in, out: kept.update(query=out))
    attention.to_out[0].register_forward_pre_hook(
        lambda _m, inputs: (inputs[0] + weight * branch.attend(site, kept.pop("query")),)
    )


def merge_lora(unet, ip: dict[str, torch.Tensor], sites: list[Site]) -> None:
    """W + up @ down, in attn1 (even N) and attn2 (odd N)."""
    for i, site in enumerate(sites):
        for n, name in ((2 * i, attn1_twin(site.name)), (2 * i + 1, site.name)):
            for leaf in ("to_q", "to_k", "to_v", "to_out"):
                linear = unet.get_submodule(f"{name}.{leaf}.0" if leaf == "to_out" else f"{name}.{leaf}")
                linear.weight.data += ip[f"{n}.{leaf}_lora.up.weight"] @ ip[f"{n}.{leaf}_lora.down.weight"]


def embedding(rows: int = 1) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, 512, generator=torch.Generator().manual_seed(7)), dim=1)


@pytest.mark.parametrize("context_dim", [768, 2048])
def test_projection(make_adapter, context_dim):
    """At the published sizes. diffusers' module is filled by its own loader."""
    weights = make_adapter((8,), context_dim)
    unet = make_unet("like SD1.5")
    theirs = unet._convert_ip_adapter_image_proj_to_diffusers(weights.image_proj, low_cpu_mem_usage=False)
    faces = torch.cat([embedding(3), torch.zeros(1, 512)])
    with torch.no_grad():
        expected = theirs(faces)
    ours = project_identity(describe(weights), weights, FaceInput(faces))
    assert ours.shape == (4, 4, context_dim)
    assert ours.dtype is torch.float32
    assert float((ours - expected).abs().max()) <= 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_sites_are_numbered_as_diffusers_numbers_them(shape):
    unet = make_unet(shape)
    theirs = [name.removesuffix(".processor") for name in unet.attn_processors]
    assert [site.name for site in list_sites(unet)] == theirs[1::2]
    assert [attn1_twin(site.name) for site in list_sites(unet)] == theirs[0::2]


@pytest.mark.parametrize("lora_rank", [0, 4], ids=["plain", "lora"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_unet(make_adapter, shape, lora_rank):
    plain, weight = make_unet(shape), 1.0
    sites = list_sites(plain)
    weights = make_adapter([site.width for site in sites], CONTEXT, lora_rank=lora_rank)
    spec = describe(weights)
    theirs, ours = copy.deepcopy(plain), copy.deepcopy(plain)
    if lora_rank:
        merge_lora(theirs, weights.ip_adapter, sites)
    theirs._load_ip_adapter_weights(
        [{"image_proj": weights.image_proj, "ip_adapter": weights.ip_adapter}], low_cpu_mem_usage=False
    )
    face = embedding()
    branch = IdentityBranch(spec, weights, project_identity(spec, weights, FaceInput(face)), sites)
    attach(ours, branch, weight)
    x, text = torch.randn(2, 4, 16, 16), torch.randn(2, 7, CONTEXT)
    given = {"image_embeds": [face[:, None].expand(2, 1, 512)]}
    with torch.no_grad():
        expected = theirs(x, 500, text, added_cond_kwargs=given).sample
        found, without = ours(x, 500, text).sample, plain(x, 500, text).sample
    difference = float((found - expected).abs().max())
    print(f"{shape}, lora rank {lora_rank}: max |difference| {difference:.2e} of {float(expected.abs().max()):.2f}")
    assert difference <= 1e-5
    assert float((expected - without).abs().max()) > 0.05  # the adapter does something


def test_weight_zero_is_the_plain_unet(make_adapter):
    plain = make_unet("like SD1.5")
    ours, sites = copy.deepcopy(plain), list_sites(plain)
    weights = make_adapter([site.width for site in sites], CONTEXT)
    spec = describe(weights)
    attach(ours, IdentityBranch(spec, weights, project_identity(spec, weights, FaceInput(embedding())), sites), 0.0)
    x, text = torch.randn(1, 4, 16, 16), torch.randn(1, 7, CONTEXT)
    with torch.no_grad():
        assert torch.equal(ours(x, 500, text).sample, plain(x, 500, text).sample)
