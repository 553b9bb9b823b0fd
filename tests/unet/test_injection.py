"""What an identity line adds to its rows of a UNet call: at every site, in its rows alone, and gone on every exit."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.unet.injection import LORA_LEAVES, Attached, attach_attention, check_fired, lora_of_site
from lib_beyondfacial.unet.rows import ALL_ROWS, LineRows
from lib_beyondfacial.unet.sites import enumerate_sites
from tests.comparing import hooks_on
from tests.random_model import CONTEXT_DIM
from tests.sampling.host_double import make_unet


class FirstChannelLora:
    """Adds the input's first channel to all of the output's."""

    def add_to(self, out, x):
        out += x[..., :1]


class ScriptedAttention:
    """An IdentityAttention that adds `value` everywhere and notes what it is given."""

    def __init__(self, value=1.0, lora_leaf=None):
        self.value, self.lora_leaf, self.given = value, lora_leaf, []

    def __call__(self, site, query, text_out, images):
        self.given.append((site, query, text_out, tuple(images)))
        return torch.full_like(query, self.value)

    def lora(self, module, site, leaf):
        return FirstChannelLora() if (module, leaf) == self.lora_leaf else None


@pytest.fixture
def unet():
    return make_unet()


def call(unet, rows=3):
    """The UNet's answer to some rows."""
    g = torch.Generator().manual_seed(1)
    x, text = torch.randn(rows, 4, 8, 8, generator=g), torch.randn(rows, 7, CONTEXT_DIM, generator=g)
    with torch.no_grad():
        return unet(x, torch.full((rows,), 500.0), text)


def test_attention_is_asked_at_every_site_for_its_own_rows(unet):
    attention, sites = ScriptedAttention(), enumerate_sites(unet)
    with attach_attention(attention, sites, LineRows([0, 2], (0, 1), (1.0, 1.0)), 1.0) as attached:
        call(unet)
    assert sorted(site for site, *_ in attention.given) == list(range(len(sites)))
    assert attached.fired == len(sites)
    for site, query, text_out, images in attention.given:
        assert query.shape == text_out.shape
        assert query.shape[0] == 2
        assert query.shape[-1] == sites[site].site.width
        assert images == (0, 1)


def test_addition_reaches_its_rows_alone(unet):
    plain = call(unet)
    with attach_attention(ScriptedAttention(), enumerate_sites(unet), LineRows(slice(1, 2), (0,), (1.0,)), 1.0):
        changed = call(unet)
    assert torch.allclose(changed[[0, 2]], plain[[0, 2]], atol=1e-5)
    assert (changed[1] - plain[1]).abs().max() > 0.01


def test_weight_scales_the_addition(unet):
    answers = []
    for value, weight in ((2.0, 0.5), (1.0, 1.0)):
        with attach_attention(ScriptedAttention(value), enumerate_sites(unet), LineRows.one_each(3), weight):
            answers.append(call(unet))
    assert torch.equal(*answers)


def test_energy_is_the_additions_norm_at_the_decoders_sites(unet):
    sites = enumerate_sites(unet)
    with attach_attention(ScriptedAttention(2.0), sites, LineRows.one_each(3), 0.7) as attached:
        call(unet)
    decoders = [number for number, site in enumerate(sites) if site.in_decoder]
    assert 0 < len(decoders) < len(sites)
    assert sorted(attached.energy.per_site) == decoders
    for number, values in attached.energy.per_site.items():
        (energy,) = values
        assert len(energy) == 3
        assert torch.allclose(energy, torch.full_like(energy, 2 * sites[number].site.width ** 0.5)), (
            "before its weight"
        )


@pytest.mark.parametrize("rows", [slice(2), [1, 0]])
@pytest.mark.parametrize("leaf", [("attn1", "to_q"), ("attn2", "to_k"), ("attn2", "to_out.0")])
def test_lora_acts_on_its_rows_and_comes_off(unet, leaf, rows):
    plain = call(unet)
    attention, where = ScriptedAttention(0.0, leaf), LineRows(rows, (0, 1), (1.0, 1.0))
    with attach_attention(attention, enumerate_sites(unet), where, 1.0):
        changed = call(unet)
    assert (changed[:2] - plain[:2]).abs().max() > 1e-3
    assert torch.allclose(changed[2], plain[2], atol=1e-5)
    assert torch.equal(call(unet), plain)


@pytest.mark.parametrize("kind", ["attn1", "attn2"])
@pytest.mark.parametrize("leaf", LORA_LEAVES)
def test_lora_of_a_leaf_goes_to_that_leaf(unet, kind, leaf):
    for number, site in enumerate(enumerate_sites(unet)):
        ((module, _),) = lora_of_site(ScriptedAttention(lora_leaf=(kind, leaf)), number, site)
        assert module is getattr(site, kind).get_submodule(leaf)


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_no_hook_stays_on_any_exit(unet, error):
    plain = call(unet)

    def attach():
        with attach_attention(ScriptedAttention(), enumerate_sites(unet), LineRows(ALL_ROWS, (0,), (1.0,)), 1.0):
            assert hooks_on(unet) > 0
            if error:
                raise error

    if error:
        with pytest.raises(error):
            attach()
    else:
        attach()
    assert hooks_on(unet) == 0
    assert torch.equal(call(unet), plain)


def test_nothing_fired_is_an_error_and_one_of_several_is_enough():
    check_fired([])
    check_fired([Attached(0), Attached(3)])
    with pytest.raises(BeyondFacialError, match="SD Unet: None"):
        check_fired([Attached(0), Attached(0)])
