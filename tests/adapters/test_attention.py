"""The decoupled attention beside formulas written out, and its refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib_beyondfacial.adapters.attention import AdapterInjection, DecoupledAttention, check_fits
from lib_beyondfacial.adapters.checkpoints import AdapterSpec, describe
from lib_beyondfacial.adapters.projections import project_identity
from lib_beyondfacial.adapters.registry import LoadedAdapter
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.unet.rows import LineRows
from lib_beyondfacial.unet.sites import AttentionSite, Site

WIDTHS, CONTEXT, HEADS = (8, 16, 8), 12, 4
SITES = [
    Site(f"input_blocks.{i}.1.transformer_blocks.0.attn2", width, HEADS, CONTEXT) for i, width in enumerate(WIDTHS)
]


@pytest.fixture(scope="module")
def weights(make_adapter):
    return make_adapter(WIDTHS, CONTEXT, lora_rank=3)


@pytest.fixture(scope="module")
def tokens(weights):
    features = {"arcface": torch.nn.functional.normalize(torch.randn(1, 512), dim=1)}
    return project_identity(describe(weights), weights, features)


@pytest.fixture
def attention(weights, tokens):
    return DecoupledAttention(describe(weights), weights, tokens, SITES)


def attend(attention, site, query):
    """The attention's answer to a query, where the text attention's output does not matter."""
    return attention(site, query, torch.zeros_like(query), range(len(query)))


def test_attention_is_softmax_per_head_in_float64(attention, weights, tokens):
    torch.manual_seed(1)
    for i, width in enumerate(WIDTHS):
        query = torch.randn(3, 5, width)
        keys = tokens[0].double() @ weights.ip_adapter[f"{2 * i + 1}.to_k_ip.weight"].double().T
        values = tokens[0].double() @ weights.ip_adapter[f"{2 * i + 1}.to_v_ip.weight"].double().T
        expected = torch.zeros(3, 5, width, dtype=torch.float64)
        size = width // HEADS
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            mass = (query[..., part].double() @ keys[:, part].T / math.sqrt(size)).softmax(-1)
            expected[..., part] = mass @ values[:, part]
        torch.testing.assert_close(attend(attention, i, query).double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype_is_the_querys_and_copies_are_kept(attention, dtype):
    query = torch.randn(2, 5, WIDTHS[1])
    exact, low = attend(attention, 1, query), attend(attention, 1, query.to(dtype))
    assert low.dtype is dtype
    torch.testing.assert_close(low.float(), exact, atol=3e-2, rtol=3e-2)
    first, second = (attention._on_device(1, query.to(dtype)) for _ in range(2))
    assert first is second
    torch.testing.assert_close(attend(attention, 1, query), exact, atol=0, rtol=0)


def test_several_persons_attend_to_their_own_tokens(weights, tokens):
    torch.manual_seed(2)
    both = torch.cat([tokens, torch.randn_like(tokens)])
    together = DecoupledAttention(describe(weights), weights, both, SITES)
    alone = [DecoupledAttention(describe(weights), weights, each[None], SITES) for each in both]
    query = torch.randn(3, 5, WIDTHS[0])
    found = together(0, query, query, [1, 0, 1])
    for row, person in enumerate([1, 0, 1]):
        torch.testing.assert_close(found[row], attend(alone[person], 0, query)[row], atol=1e-6, rtol=1e-5)


def test_rows_do_not_see_each_other(attention):
    query = torch.randn(4, 5, WIDTHS[0])
    torch.testing.assert_close(
        attend(attention, 0, query)[2:3], attend(attention, 0, query[2:3]), atol=1e-6, rtol=1e-5
    )


def test_inference_mode_and_plain_mode_mix(weights, tokens):
    with torch.inference_mode():
        made_inside = DecoupledAttention(describe(weights), weights, tokens, SITES)
        inside = attend(made_inside, 0, torch.ones(1, 2, 8, dtype=torch.float16))
    outside = attend(made_inside, 0, torch.ones(1, 2, 8, dtype=torch.float16))
    assert torch.equal(inside, outside)
    assert not outside.requires_grad


class CrossAttention(torch.nn.Module):
    """A query and its way out: what an injection hooks."""

    def __init__(self, width):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (torch.nn.Linear(size, width) for size in (width, CONTEXT, CONTEXT))
        self.to_out = torch.nn.Sequential(torch.nn.Linear(width, width))

    def forward(self, x):
        return self.to_out(self.to_q(x))


def test_injection_computes_its_keys_anew_for_another_unet(weights, tokens):
    """Here one that differs in the number of heads alone."""
    adapter = LoadedAdapter("mine", Path("mine.bin"), describe(weights), weights, "")
    modules, x = [CrossAttention(width) for width in WIDTHS], torch.randn(1, 5, WIDTHS[0])

    def answer(injection, heads):
        sites = [AttentionSite(s._replace(heads=heads), m, None) for s, m in zip(SITES, modules, strict=True)]
        with torch.no_grad(), injection.attached(sites, LineRows.one_each(1), 1.0):
            return modules[0](x)

    used, fresh = AdapterInjection(adapter, tokens), AdapterInjection(adapter, tokens)
    first, second = answer(used, HEADS), answer(used, HEADS // 2)
    torch.testing.assert_close(second, answer(fresh, HEADS // 2))
    assert (first - second).abs().max() > 1e-4
    torch.testing.assert_close(answer(used, HEADS), first)


def test_lora_is_low_rank_and_numbered(attention, weights):
    for kind, offset in (("attn1", 0), ("attn2", 1)):
        for i, width in enumerate(WIDTHS):
            for leaf in ("to_q", "to_k", "to_v", "to_out.0"):
                key = f"{2 * i + offset}.{leaf.removesuffix('.0')}_lora"
                merged = weights.ip_adapter[f"{key}.up.weight"] @ weights.ip_adapter[f"{key}.down.weight"]
                x = torch.randn(2, 5, CONTEXT if kind == "attn2" and leaf in ("to_k", "to_v") else width)
                lora, before = attention.lora(kind, i, leaf), torch.randn(2, 5, len(merged))
                for out in (before.clone(), before.mT.contiguous().mT):
                    lora.add_to(out, x)
                    torch.testing.assert_close(out, before + x @ merged.T, atol=1e-5, rtol=1e-5)
    assert attention.lora("attn2", len(WIDTHS), "to_q") is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lora_follows_its_layers_output(attention, dtype):
    """Under autocast a layer's output is of another type than its input."""
    x, out = torch.ones(1, 1, 8), torch.zeros(1, 1, WIDTHS[0], dtype=dtype)
    attention.lora("attn2", 0, "to_q").add_to(out, x)
    exact = torch.zeros(1, 1, WIDTHS[0])
    attention.lora("attn2", 0, "to_q").add_to(exact, x)
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)
    cast = torch.zeros(1, 1, WIDTHS[0])
    with torch.autocast("cpu", dtype):
        attention.lora("attn2", 0, "to_q").add_to(cast, x)
    torch.testing.assert_close(cast, exact, atol=0.05, rtol=0.05)


def test_without_lora_there_is_none(make_adapter, tokens):
    plain = make_adapter(WIDTHS, CONTEXT)
    assert DecoupledAttention(describe(plain), plain, tokens, SITES).lora("attn1", 0, "to_q") is None


def test_another_base_model_is_refused_in_words():
    sdxl = AdapterSpec("faceid", 4, 2048, (640,) * 70, True)
    sd15 = [Site(f"input_blocks.{i}.attn2", 320, 8, 768) for i in range(16)]
    with pytest.raises(
        BeyondFacialError, match='"mine" was made for SDXL.*this model is SD1.5.*choose an adapter for SD1.5'
    ):
        check_fits(sdxl, sd15, "mine")
    with pytest.raises(BeyondFacialError, match="made for a model of context width 128, this model is SD1.5"):
        check_fits(AdapterSpec("faceid", 4, 128, (320,) * 16, False), sd15)
    with pytest.raises(BeyondFacialError, match="has 15 attention sites, this model has 16"):
        check_fits(AdapterSpec("faceid", 4, 768, (320,) * 15, False), sd15)
    with pytest.raises(BeyondFacialError, match="has width 640 where this model's input_blocks.15.attn2 has 320"):
        check_fits(AdapterSpec("faceid", 4, 768, (320,) * 15 + (640,), False), sd15)
    with pytest.raises(BeyondFacialError, match="no cross-attention"):
        check_fits(sdxl, [])
    check_fits(AdapterSpec("faceid", 4, 768, (320,) * 16, False), sd15)


def test_attention_is_not_built_for_the_wrong_model(weights, tokens):
    with pytest.raises(BeyondFacialError, match="attention sites"):
        DecoupledAttention(describe(weights), weights, tokens, SITES[:2])


@pytest.mark.parametrize("leaf", ["to_k_ip", "to_v_ip"])
def test_numbers_that_run_over_are_refused(weights, tokens, leaf):
    """Finite in the file, not in the attention: such a picture would be black without a word."""
    huge = replace(weights, ip_adapter=weights.ip_adapter | {f"3.{leaf}.weight": torch.full((16, CONTEXT), 3e38)})
    with pytest.raises(BeyondFacialError, match="attention gives numbers that are not finite"):
        DecoupledAttention(describe(huge), huge, tokens, SITES)
