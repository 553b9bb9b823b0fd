"""What is put in place of the method's parts does what its name says."""

import pytest
import torch

from bench.alternatives import ALTERNATIVES, compute_argmax_mask, compute_box_mask
from bench.painter import Painted, record_masks
from lib_beyondfacial.method import decision
from lib_beyondfacial.method.mask import AdaptiveMask
from lib_beyondfacial.method.predictions import AttentionReadings, Predictions
from lib_beyondfacial.method.start_noise import prior_box
from lib_beyondfacial.sampling.plan import PERSON, Plan
from lib_beyondfacial.settings import MethodParameters

SIZE = (16, 16)
BOXES = [(0.25, 0.125, 0.5, 0.375), None]
MASKS = [name for name in ALTERNATIVES if name != "prior_start"]
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
