"""What is put in place of the method's parts does what its name says."""

from types import SimpleNamespace

import pytest
import torch

from bench.ablations import BRANCHES, SCOPES, ActivationAttention, RescaledAttention
from bench.alternatives import ALTERNATIVES, compute_argmax_mask, compute_box_mask
from bench.painter import Painted, record_masks
from lib_beyondfacial.adapters.attention import DecoupledAttention
from lib_beyondfacial.method import decision
from lib_beyondfacial.method.mask import AdaptiveMask
from lib_beyondfacial.method.predictions import AttentionReadings, Predictions
from lib_beyondfacial.method.start_noise import prior_box
from lib_beyondfacial.sampling.plan import PERSON, Plan
from lib_beyondfacial.settings import MethodParameters
from lib_beyondfacial.unet.sites import Site

SIZE = (16, 16)
BOXES = [(0.25, 0.125, 0.5, 0.375), None]
MASKS = [name for name in ALTERNATIVES if name not in {"prior_start", *BRANCHES, *SCOPES}]
PARAMETERS = MethodParameters(smoothing=0.0)
PLAN = Plan(PARAMETERS, (), find_faces=lambda image: [])


def noise(seed):
    return torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(seed))


def readings():
    def site(seed, side):
        return torch.rand(2, side * side, generator=torch.Generator().manual_seed(seed))

    return AttentionReadings(head=[site(4, 16), site(5, 8)], subject=[site(6, 16)], energy=[site(7, 16), site(8, 8)])


def predictions():
    return Predictions(noise(1), {PERSON: noise(2)}, {PERSON: readings()}, uncond=noise(3))


def change(name, plan=PLAN):
    return ALTERNATIVES[name](plan, BOXES)


def mask_of(plan):
    policy, given = plan.mask_policy(plan.parameters), predictions()
    return policy.compute_masks(0.0, given, policy.compute_maps(given))[PERSON]


@pytest.mark.parametrize("name", MASKS)
def test_each_has_a_mask_of_its_own(name):
    mask, usual = mask_of(change(name)), mask_of(PLAN)
    assert mask.shape == usual.shape
    assert ((mask >= 0) & (mask <= 1)).all()
    assert (mask - usual).abs().max() > 1e-3  # far above rounding


@pytest.mark.parametrize("name", MASKS)
def test_the_mask_strength_scales_each_mask(name):
    half = Plan(MethodParameters(smoothing=0.0, mask_strength=0.5), (), PLAN.find_faces)
    assert torch.equal(mask_of(change(name, half)), 0.5 * mask_of(change(name)))


def test_masks_are_recorded_and_stay_what_they_are():
    painted, plan = Painted(), change("no_decision")
    mask = mask_of(record_masks(plan, painted))
    assert torch.equal(mask, mask_of(plan))
    assert len(painted.masks) == 1
    assert torch.equal(painted.masks[0], mask)


def test_saliency_only_takes_the_larger_softmax():
    flat, uncond = torch.ones(2, 4, *SIZE), noise(3)
    peak = flat.clone()
    peak[:, :, 4, 4] = 9.0
    given = Predictions(uncond + flat, {PERSON: uncond + peak}, {}, uncond)
    mask = compute_argmax_mask(given, PERSON)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask[0, 0, 4, 4] == 1
    assert mask[0, 0, 12, 12] == 0
    assert mask.mean() < 0.1
    with pytest.raises(RuntimeError, match="unconditional"):
        compute_argmax_mask(Predictions(given.semantic, given.identity, {}), PERSON)


def test_the_oracles_mask_covers_the_box_by_parts_of_pixels():
    mask = compute_box_mask([(0.25, 0.125, 0.53125, 0.375), None, (0.0, 0.0, 1.0, 1.0)], *SIZE)
    assert mask[0].sum() == pytest.approx(4.5 * 4)
    assert mask[0, 0, 2, 4] == 1
    assert mask[0, 0, 2, 8] == pytest.approx(0.5)
    assert mask[0, 0, 1].sum() == 0
    assert mask[1].sum() == 0
    assert mask[2].min() == 1
    assert torch.equal(mask_of(change("oracle_mask")), compute_box_mask(BOXES, *SIZE))


def test_without_attention_saliency_over_the_picture_decides():
    given, everywhere = predictions(), torch.ones(2, 1, *SIZE, dtype=torch.bool)
    sigma = 0.22 * 16 / 5
    s_i = decision.compute_saliency(given.identity[PERSON] - given.semantic, everywhere, sigma)
    s_s = decision.compute_saliency(given.semantic - given.uncond, everywhere, sigma)
    expected = torch.sigmoid(8 * (0.5 * s_i - 0.5 * s_s - 0.2))
    assert torch.allclose(mask_of(change("no_attention")), torch.where(expected < 1 / 255, 0.0, expected), atol=1e-6)


def test_without_the_decision_the_gate_is_the_mask():
    policy = AdaptiveMask(PARAMETERS)
    gate = decision.smoothstep(policy.compute_map(readings(), SIZE), *policy.gate())
    assert torch.equal(mask_of(change("no_decision")), torch.where(gate < 1 / 255, 0.0, gate))
    assert (mask_of(change("argmax_in_region")) <= gate + 1e-6).all()


@pytest.mark.parametrize("name", ["saliency_only", "argmax_in_region", "oracle_mask"])
def test_masks_without_memory_are_those_of_their_own_level(name):
    slow = Plan(MethodParameters(smoothing=0.9), (), PLAN.find_faces)
    first, later = predictions(), Predictions(noise(11), {PERSON: noise(12)}, {PERSON: readings()}, uncond=noise(13))
    policy, fresh = (change(name, slow).mask_policy(slow.parameters) for _ in range(2))
    policy.compute_masks(0.0, first, policy.compute_maps(first))
    after, alone = (each.compute_masks(1.0, later, each.compute_maps(later))[PERSON] for each in (policy, fresh))
    assert torch.equal(after, alone)


def test_the_priors_start_asks_no_attention():
    boxes = change("prior_start").find_boxes(readings(), 2, SIZE)
    assert boxes == [prior_box(*SIZE)] * 2
    assert PLAN.find_boxes(readings(), 2, SIZE) != boxes


def attention_of(attention_class):
    """Two sites of an adapter with random weights, one person."""
    generator = torch.Generator().manual_seed(21)
    sites = [Site(f"output_blocks.{i}.attn2", 32, 4, 16) for i in range(2)]
    weights = {
        f"{2 * i + 1}.{leaf}.weight": torch.randn(32, 16, generator=generator)
        for i in range(2)
        for leaf in ("to_k_ip", "to_v_ip")
    }
    spec = SimpleNamespace(context_dim=16, site_widths=(32, 32), has_lora=False)
    tokens = torch.randn(1, 4, 16, generator=generator)
    return attention_class(spec, SimpleNamespace(ip_adapter=weights), tokens, sites)


def test_the_rescaled_branch_has_the_texts_norm_and_its_own_direction():
    query, text = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1)), torch.randn(2, 9, 32)
    plain, rescaled = (attention_of(each)(1, query, text, [0, 1]) for each in (DecoupledAttention, RescaledAttention))
    assert torch.allclose(rescaled.norm(dim=-1), text.norm(dim=-1), rtol=1e-4)
    assert torch.allclose(torch.cosine_similarity(rescaled, plain, dim=-1), torch.ones(2, 9), atol=1e-4)


def test_the_activation_is_the_largest_key_product_and_changes_no_output():
    query, text = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(1)), torch.zeros(1, 9, 32)
    attention = attention_of(ActivationAttention)
    assert torch.equal(attention(0, query, text, [0]), attention_of(DecoupledAttention)(0, query, text, [0]))
    keys = attention._on_device(0, query)[0][0]
    by_hand = [[max(float(query[0, n].view(4, 8)[h] @ k) for k in keys[h]) for h in range(4)] for n in range(9)]
    expected = torch.tensor(by_hand).mean(-1) / 8**0.5
    assert torch.allclose(attention.activation[0], expected - expected.min(), atol=1e-5)


def test_without_a_mask_nothing_is_fused_but_the_map_is_there():
    policy, given = change("no_mask").mask_policy(PARAMETERS), predictions()
    maps = policy.compute_maps(given)
    assert maps[PERSON].max() > 0.5
    assert policy.compute_masks(0.0, given, maps)[PERSON].max() == 0
