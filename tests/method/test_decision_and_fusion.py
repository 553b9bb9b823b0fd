"""eq. 4-9: by hand, against float64, and as properties over random pictures."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from lib_beyondfacial.method import decision, fusion
from lib_beyondfacial.method.predictions import Predictions

GATE = (0.6, 0.85)


def fuse(semantic, identity, mask, rho=1.0):
    """eq. 8 of one line."""
    masks = {"line": mask}
    return fusion.fuse(fusion.compute_differences(Predictions(semantic, {"line": identity}, {}), masks), masks, rho)


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_smoothstep_by_hand_and_as_a_step():
    x = torch.tensor([0.0, 0.6, 0.725, 0.85, 1.0])
    assert torch.allclose(decision.smoothstep(x, *GATE), torch.tensor([0, 0, 0.5, 1, 1]), atol=1e-6)
    assert torch.equal(decision.smoothstep(x, 0.725, 0.725), torch.tensor([0.0, 0, 0, 1, 1]))


def test_blur_equals_scipys():
    x = random(0, 1, 1, 16, 12)
    found = decision.blur(x, 1.0)[0, 0].double().numpy()
    reference = gaussian_filter(x[0, 0].double().numpy(), 1.0, mode="nearest", radius=3)
    assert abs(found - reference).max() < 1e-6


def test_saliency_is_judged_inside_the_region():
    response = torch.ones(1, 4, 8, 8)
    response[..., 0:2, 0:2] = 3.0
    region = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    region[..., 0:2, 0:2] = True
    s = decision.compute_saliency(response, region, 0)
    assert torch.allclose(s[..., 0:2, 0:2], torch.ones(1, 1, 2, 2), atol=1e-5)
    assert torch.allclose(s[..., 4:, 4:], torch.full((1, 1, 4, 4), 1 / 3), atol=1e-5)


def test_decision_by_hand():
    a, s_i, s_s = torch.tensor([[[[0.9]]]]), torch.tensor([[[[1.2]]]]), torch.tensor([[[[0.8]]]])
    t = (0.9 - 0.6) / 0.25
    gate = min(t, 1.0)
    expected = gate * 1 / (1 + math.exp(-8 * (0.9 * 1.2 - 1.0 * 0.1 * 0.8 - 0.2)))
    assert decision.compute_decision(a, s_i, s_s, GATE).item() == pytest.approx(expected, abs=1e-6)


def test_decision_below_one_level_of_255_is_zero():
    """At A = .605 the gate is .0012, at .62 .0182; elsewhere nothing holds the mask back."""
    a, s = torch.tensor([[[[0.605, 0.62]]]]), torch.full((1, 1, 1, 2), 5.0)
    below, above = decision.compute_decision(a, s, 0.0, GATE).flatten().tolist()
    assert below == 0
    assert above == pytest.approx(0.0182, abs=1e-3)


def test_smoothing_by_hand():
    before, fresh = torch.tensor([[[[1.0]]]]), torch.tensor([[[[0.0]]]])
    assert decision.smooth(None, fresh, 0.5, 1) is fresh
    assert decision.smooth(before, fresh, 0.5, 1).item() == 0.5
    assert decision.smooth(before, fresh, 0.5, 2).item() == 0.25
    assert decision.smooth(before, fresh, 0.5, 0).item() == 1.0
    assert decision.smooth(before, fresh, 0.0, 1).item() == 0.0


@given(st.integers(0, 10**6), st.integers(2, 24), st.integers(2, 24), st.floats(1e-3, 1e3))
def test_mask_stays_in_the_gate_at_any_prediction_scale(seed, height, width, scale):
    a = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(seed))
    r_i, r_s = random(seed + 1, 2, 4, height, width), random(seed + 2, 2, 4, height, width)
    masks = []
    for k in (1.0, scale):
        s_i, s_s = (decision.compute_saliency(k * r, a > GATE[0], 0.7) for r in (r_i, r_s))
        masks.append(decision.compute_decision(a, s_i, s_s, GATE))
    assert (masks[0] >= 0).all()
    assert (masks[0] <= 1).all()
    assert not masks[0][a <= GATE[0]].any()
    assert torch.allclose(*masks, atol=6e-3)  # 1/255 is where a mask ends


@given(st.integers(0, 10**6), st.floats(0, 2))
def test_zero_mask_gives_zero_delta_also_with_nan(seed, rho):
    semantic, identity = random(seed, 1, 4, 6, 6), random(seed + 1, 1, 4, 6, 6)
    mask = (random(seed + 2, 1, 1, 6, 6) > 0).float() * 0.7
    identity = torch.where(mask == 0, torch.full_like(identity, math.nan), identity)
    delta = fuse(semantic, identity, mask, rho)
    assert torch.isfinite(delta).all()
    assert not delta[(mask == 0).expand_as(delta)].any()
    exact = rho * mask.double() * (identity.double().nan_to_num() - semantic.double())
    assert torch.allclose(delta.double(), torch.where(mask > 0, exact, 0.0), atol=1e-5)


def test_half_precision_lines_are_subtracted_in_fp32():
    semantic = torch.full((1, 4, 2, 2), 1000.0, dtype=torch.float16)
    identity = semantic + 1
    delta = fuse(semantic, identity, torch.full((1, 1, 2, 2), 0.1))
    assert delta.dtype == torch.float32
    assert torch.allclose(delta, torch.full_like(delta, 0.1))


def test_several_lines_add_up_each_under_its_own_mask():
    semantic, one, other = (random(seed, 1, 4, 6, 6) for seed in range(3))
    left, right = torch.zeros(2, 1, 1, 6, 6).unbind()
    left[..., :3], right[..., 3:] = 0.5, 1.0
    masks = {"one": left, "other": right}
    differences = fusion.compute_differences(Predictions(semantic, {"one": one, "other": other}, {}), masks)
    delta = fusion.fuse(differences, masks)
    assert torch.equal(delta[..., :3], (0.5 * (one - semantic))[..., :3])
    assert torch.equal(delta[..., 3:], (other - semantic)[..., 3:])
    assert torch.equal(differences["one"], one - semantic), "inputs are not modified"


def test_style_moves_the_mean_inside_the_mask_alone():
    semantic, identity = random(0, 1, 4, 8, 8), random(1, 1, 4, 8, 8) + 2
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 2:5] = 1
    aligned = fusion.align_style(identity, semantic, mask, 1.0)
    assert torch.allclose(aligned[..., 2:5, 2:5].mean((-1, -2)), semantic[..., 2:5, 2:5].mean((-1, -2)), atol=1e-5)
    assert torch.equal(aligned[..., 6:, 6:], identity[..., 6:, 6:])
    assert fusion.align_style(identity, semantic, mask, 0.0) is identity
    predictions = Predictions(semantic, {"line": identity}, {})
    difference = fusion.compute_differences(predictions, {"line": mask}, style=1.0)["line"]
    assert torch.allclose(difference, aligned - semantic)
