"""Equal to diffusers: the projection, and the injection in a whole tiny UNet, with and without the LoRA."""

from __future__ import annotations

import copy
import functools

import pytest
import torch

from lib_beyondfacial.adapters.attention import DecoupledAttention
from lib_beyondfacial.adapters.checkpoints import describe
from lib_beyondfacial.adapters.families import FAMILIES
from lib_beyondfacial.adapters.features import Features
from lib_beyondfacial.adapters.files import Weights
from lib_beyondfacial.adapters.projections import project_identity
from lib_beyondfacial.unet.injection import attach_attention
from lib_beyondfacial.unet.rows import LineRows
from lib_beyondfacial.unet.sites import AttentionSite, Site, attn1_twin, enumerate_sites
from tests.adapters.synthetic import cast, face_features, random_family

diffusers = pytest.importorskip("diffusers")
attention_processor = pytest.importorskip("diffusers.models.attention_processor")
LEAVES = ("to_q", "to_k", "to_v", "to_out.0")
CONTEXT = 64
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


def ask(family: str) -> str:
    """What the user says of a file whose shapes leave a choice."""
    return "auto" if family in ("faceid", "portrait") else family


@functools.cache
def make_unet(shape: str):
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, cross_attention_dim=CONTEXT, norm_num_groups=8, **SHAPES[shape]
    )
    return unet.eval()


def list_sites(unet) -> list[Site]:
    return [each.site for each in enumerate_sites(unet)]


def merge_lora(unet, ip: dict[str, torch.Tensor], sites: list[Site]) -> None:
    """W + up @ down, in attn1 (even N) and attn2 (odd N)."""
    for i, site in enumerate(sites):
        for n, name in ((2 * i, attn1_twin(site.name)), (2 * i + 1, site.name)):
            for leaf in ("to_q", "to_k", "to_v", "to_out"):
                linear = unet.get_submodule(f"{name}.{leaf}.0" if leaf == "to_out" else f"{name}.{leaf}")
                linear.weight.data += ip[f"{n}.{leaf}_lora.up.weight"] @ ip[f"{n}.{leaf}_lora.down.weight"]


def embedding(rows: int = 1, seed: int = 7) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, 512, generator=torch.Generator().manual_seed(seed)), dim=1)


def person(unit: torch.Tensor, photos: int = 0) -> Features:
    """A raw embedding's usual length; CLIP's features about as large as they are; photos for Portrait."""
    clip = torch.randn(1, 257, 1280, generator=torch.Generator().manual_seed(8))
    return face_features(unit, 21.0, embedding(photos, seed=9) if photos else None, clip)


def their_input(family: str, face: Features, rows: int) -> torch.Tensor:
    """The image_embeds of a pipeline: (rows, faces, 512), with one more axis for a resampler's sequence."""
    asked = FAMILIES[family].features[0]
    if asked == "arcface_raw":
        return face[asked][:, None, None].expand(rows, 1, 1, 512)
    return face[asked][None].expand(rows, -1, 512)


def set_up_plus(projection, family: str, face: Features, rows: int, clip_weight: float) -> None:
    if "clip" in FAMILIES[family].features:
        projection.clip_embeds = face["clip"][None].expand(rows, -1, -1, -1).to(projection.norm.weight.dtype)
        projection.shortcut = family == "faceid_plus_v2"
        projection.shortcut_scale = clip_weight


def their_projection(weights, family: str, face: Features, clip_weight: float, dtype=torch.float32):
    """diffusers' module, filled by its own loader."""
    with pytest.MonkeyPatch.context() as patch:  # their random start of 79 million numbers is overwritten anyway
        patch.setattr(torch.nn.Linear, "reset_parameters", lambda _self: None)
        convert = diffusers.UNet2DConditionModel._convert_ip_adapter_image_proj_to_diffusers
        reference = convert(None, weights.image_proj, low_cpu_mem_usage=False).to(dtype)
    given = face[FAMILIES[family].features[0]]
    set_up_plus(reference, family, face, len(given), clip_weight)
    given = given[:, None] if "arcface_raw" in FAMILIES[family].features else given
    with torch.no_grad():
        return reference(given.to(dtype)).float()


PUBLISHED = [  # family, C, d: the sizes of the published files
    ("faceid", 768, 0),
    ("faceid", 2048, 0),
    ("portrait", 768, 0),
    ("portrait", 2048, 0),
    ("faceid_plus", 768, 0),
    ("faceid_plus_v2", 768, 0),
    ("instantid", 2048, 1280),
]
SMALLER = [("faceid_plus_v2", 128, 0), ("portrait_unnorm", 2048, 128)]  # at full size: 2e-6 and 2e-6, measured once


@pytest.mark.parametrize(("family", "context_dim", "width"), PUBLISHED + SMALLER)
def test_projection(family, context_dim, width):
    weights = random_family(family, (8,), context_dim, width=width)
    faces = person(torch.cat([embedding(3), torch.zeros(1, 512)]))
    expected = their_projection(weights, family, faces, 0.7)
    result = project_identity(describe(weights, family=ask(family)), weights, faces, 0.7)
    result = result.reshape(4, -1, context_dim)  # Portrait takes the rows for photos of one person
    assert result.shape[1] == (4 if family.startswith("faceid") else 16)
    assert result.dtype is torch.float32
    difference = float((result - expected).abs().max())
    print(f"{family}, C {context_dim}: max |difference| {difference:.1e} of {float(expected.abs().max()):.1f}")
    assert difference <= 1e-5
    assert float(expected.std()) > 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_projection_of_half_precision_files(family, dtype):
    """Exactly their fp32 of the rounded weights; near their arithmetic in the file's own dtype."""
    weights = cast(random_family(family, (8,), 128), dtype)
    face = person(embedding(2))
    result = project_identity(describe(weights, family=ask(family)), weights, face).reshape(2, -1, 128)
    rounded = their_projection(cast(weights, torch.float32), family, face, 1.0)
    assert float((result - rounded).abs().max()) <= 1e-5
    reference = their_projection(weights, family, face, 1.0, dtype)
    difference = float((result - reference).abs().max() / reference.abs().max())
    print(f"{family}, {dtype}: max |difference| / max {difference:.1e}")
    assert difference <= 2e-2


def test_clip_weight_is_the_originals_s_scale():
    """Plus v2 adds CLIP's part by a weight; Plus has nothing but that part."""
    weights, face = random_family("faceid_plus", (8,), 64), person(embedding())
    plus, v2 = (describe(weights, family=family) for family in ("faceid_plus", "faceid_plus_v2"))
    none, half, whole = (project_identity(v2, weights, face, weight) for weight in (0.0, 0.5, 1.0))
    faceid = Weights({k: v for k, v in weights.image_proj.items() if "resampler" not in k}, weights.ip_adapter)
    assert torch.equal(none, project_identity(describe(faceid), faceid, face))
    torch.testing.assert_close(half, (none + whole) / 2)
    torch.testing.assert_close(project_identity(plus, weights, face, 0.5), whole - none, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_sites_are_numbered_as_diffusers_numbers_them(shape):
    unet = make_unet(shape)
    reference = [name.removesuffix(".processor") for name in unet.attn_processors]
    assert [site.name for site in list_sites(unet)] == reference[1::2]
    assert [attn1_twin(site.name) for site in list_sites(unet)] == reference[0::2]


UNETS = [  # family, shape, LoRA rank, photos, weight
    ("faceid", "like SD1.5", 4, 0, 1.0),
    ("faceid", "like SDXL", 4, 0, 0.6),
    ("portrait", "like SD1.5", 0, 3, 1.0),
    ("portrait", "like SDXL", 0, 5, 1.0),
    ("faceid_plus", "like SD1.5", 4, 0, 1.0),
    ("faceid_plus_v2", "like SDXL", 4, 0, 0.8),
    ("instantid", "like SDXL", 0, 0, 0.8),
]


def predict_both(family: str, shape: str, lora_rank: int, photos: int, weight: float):
    """(theirs, ours, plain): eps of one tiny UNet with the adapter in diffusers, with ours, and without."""
    plain = make_unet(shape)
    sites = list_sites(plain)
    weights = random_family(family, [site.width for site in sites], CONTEXT, lora_rank=lora_rank)
    spec, face = describe(weights, family=ask(family)), person(embedding(), photos)
    reference, result = copy.deepcopy(plain), copy.deepcopy(plain)
    if lora_rank:
        merge_lora(reference, weights.ip_adapter, sites)
    reference._load_ip_adapter_weights(
        [{"image_proj": weights.image_proj, "ip_adapter": weights.ip_adapter}], low_cpu_mem_usage=False
    )
    set_up_plus(reference.encoder_hid_proj.image_projection_layers[0], family, face, 2, 0.7)
    for processor in reference.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [weight]
    attention = DecoupledAttention(spec, weights, project_identity(spec, weights, face, 0.7), sites)
    x, text = torch.randn(2, 4, 8, 8), torch.randn(2, 7, CONTEXT)
    given = {"image_embeds": [their_input(family, face, 2)]}
    with torch.no_grad():
        expected = reference(x, 500, text, added_cond_kwargs=given).sample
        with attach_attention(attention, enumerate_sites(result), LineRows.one_each(2), weight):
            found = result(x, 500, text).sample
        return expected, found, plain(x, 500, text).sample


@pytest.mark.parametrize(("family", "shape", "lora_rank", "photos", "weight"), UNETS)
def test_a_whole_unet(family, shape, lora_rank, photos, weight):
    expected, found, without = predict_both(family, shape, lora_rank, photos, weight)
    difference = float((found - expected).abs().max())
    print(f"{family}, {shape}: max |difference| {difference:.1e} of {float(expected.abs().max()):.2f}")
    assert difference <= 1e-5
    assert float((expected - without).abs().max()) > 0.05  # the adapter does something


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_attention_in_half_precision(family, dtype):
    """A site of 64 channels in that dtype: their processor with the LoRA merged, our hooks on the leaves."""
    torch.manual_seed(1)
    plain = attention_processor.Attention(query_dim=64, cross_attention_dim=CONTEXT, heads=4, dim_head=16)
    weights, face = cast(random_family(family, (64,), CONTEXT, lora_rank=8), dtype), person(embedding(), 3)
    spec = describe(weights, family=ask(family))
    tokens = project_identity(spec, weights, face)
    site = Site("attn2", 64, 4, CONTEXT)
    attention = DecoupledAttention(spec, weights, tokens, [site])
    reference, result = copy.deepcopy(plain), copy.deepcopy(plain).to(dtype)
    for leaf in LEAVES:
        lora = attention.lora("attn2", 0, leaf)
        reference.get_submodule(leaf).weight.data += lora.up.float() @ lora.down.float()
    processor = attention_processor.IPAdapterAttnProcessor2_0(64, CONTEXT, (16,), [0.8])
    processor.to_k_ip[0].weight.data = weights.ip_adapter["1.to_k_ip.weight"].float()
    processor.to_v_ip[0].weight.data = weights.ip_adapter["1.to_v_ip.weight"].float()
    reference.set_processor(processor.to(dtype))
    reference.to(dtype)
    x, text = torch.randn(2, 36, 64).to(dtype), torch.randn(2, 7, CONTEXT).to(dtype)
    with torch.no_grad():
        expected = reference(x, (text, [tokens[:, None].expand(2, -1, -1, -1).to(dtype)])).float()
        with attach_attention(attention, [AttentionSite(site, result, None)], LineRows.one_each(2), 0.8) as attached:
            found = result(x, text).float()
    assert attached.fired == 1
    difference = float((found - expected).abs().max() / expected.abs().max())
    print(f"{family}, {dtype}: max |difference| / max {difference:.1e}")
    assert difference <= 2e-2


def test_weight_zero_is_bit_equal_to_the_plain_unet(make_adapter):
    plain = make_unet("like SD1.5")
    result, sites = copy.deepcopy(plain), list_sites(plain)
    weights = make_adapter([site.width for site in sites], CONTEXT)
    spec = describe(weights)
    attention = DecoupledAttention(spec, weights, project_identity(spec, weights, person(embedding())), sites)
    x, text = torch.randn(1, 4, 16, 16), torch.randn(1, 7, CONTEXT)
    with torch.no_grad(), attach_attention(attention, enumerate_sites(result), LineRows.one_each(1), 0.0) as attached:
        assert torch.equal(result(x, 500, text).sample, plain(x, 500, text).sample)
    assert attached.fired == len(sites)
