"""Mask policies of one pass (eq. 3-7): where the mask is, the missing uncond row, and what a policy remembers."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.method.mask import (
    AdaptiveMask,
    NoAttentionError,
    WholeMask,
    choose_mask_policy,
    compute_semantic_map,
)
from lib_beyondfacial.method.predictions import AttentionReadings, Predictions
from lib_beyondfacial.settings.parameters import MethodParameters

LINE = "person"


def adaptive(**changes) -> AdaptiveMask:
    return AdaptiveMask(MethodParameters(**changes))


def predict(readings: AttentionReadings, seed=0, batch=1, uncond=True) -> Predictions:
    g = torch.Generator().manual_seed(seed)
    s, i, u = (torch.randn(batch, 4, 16, 16, generator=g) for _ in range(3))
    return Predictions(s, {LINE: i}, {LINE: readings}, u if uncond else None)


def mask_at(policy: AdaptiveMask | WholeMask, position: float, predictions: Predictions) -> torch.Tensor:
    """The policy's two steps, as SamplingPass.delta asks for them."""
    return policy.compute_masks(position, predictions, policy.compute_maps(predictions))[LINE]


def spot(row=5, column=9, batch=1, strength=0.4) -> AttentionReadings:
    """Readings that point at one place."""
    fine, coarse = torch.full((batch, 16, 16), 0.01), torch.full((batch, 8, 8), 0.01)
    fine[:, row - 1 : row + 2, column - 1 : column + 2] = strength
    coarse[:, row // 2, column // 2] = strength
    return AttentionReadings([fine.flatten(1), coarse.flatten(1)], [], [fine.flatten(1), coarse.flatten(1)])


def test_adaptive_mask_is_where_the_head_probe_points():
    mask = mask_at(adaptive(), 1, predict(spot()))[0, 0]
    assert mask[5, 9] > 0.5
    assert mask[12:].abs().max() == 0


def test_no_head_means_no_mask():
    even = AttentionReadings([torch.full((1, 256), 0.3)], [], [torch.rand(1, 256)])
    nothing = AttentionReadings([torch.rand(1, 256) * 0.04], [], [torch.rand(1, 256)])
    for readings in (even, nothing):
        assert not mask_at(adaptive(), 1, predict(readings)).any()


def test_subject_words_replace_a_head_probe_without_head():
    found = spot()
    readings = AttentionReadings([1e-6 * h for h in found.head], found.head, found.energy)
    a = compute_semantic_map(readings, (16, 16))[0, 0]
    assert a[5, 9] > 0.9
    assert a[12:].max() < 0.1
    assert not compute_semantic_map(AttentionReadings(readings.head, [], []), (16, 16)).any()


def test_every_image_of_a_batch_is_judged_by_itself():
    one, other = spot(), spot(11, 3, strength=0.9)
    both = AttentionReadings(
        *[
            [torch.cat(pair) for pair in zip(getattr(one, kind), getattr(other, kind), strict=True)]
            for kind in ("head", "subject", "energy")
        ]
    )
    batch = predict(both, batch=2)
    together = mask_at(adaptive(), 1, batch)
    for i, attention in enumerate((one, other)):
        image = slice(i, i + 1)
        single = Predictions(
            batch.semantic[image], {LINE: batch.identity[LINE][image]}, {LINE: attention}, batch.uncond[image]
        )
        assert torch.allclose(together[image], mask_at(adaptive(), 1, single), atol=1e-4)


def test_every_line_of_a_plan_is_judged_by_itself():
    both = predict(spot())
    both = Predictions(both.semantic, both.identity | {"other": both.identity[LINE]}, both.readings, both.uncond)
    both = Predictions(both.semantic, both.identity, both.readings | {"other": spot(11, 3)}, both.uncond)
    policy = adaptive()
    masks = policy.compute_masks(1, both, policy.compute_maps(both))
    assert torch.equal(masks[LINE], mask_at(adaptive(), 1, predict(spot())))
    assert torch.equal(masks["other"], mask_at(adaptive(), 1, predict(spot(11, 3))))


def test_without_uncond_the_last_semantic_saliency_is_used():
    """The first level has no uncond row, the second has, the third has none: it is judged by the second's."""
    fresh, policy = {"smoothing": 0.0}, adaptive(smoothing=0.0)
    first = mask_at(policy, 0, predict(spot(), 1, uncond=False))
    second, third = predict(spot(), 2), predict(spot(), 3, uncond=False)
    mask_at(policy, 1, second)
    kept = mask_at(policy, 2, third)
    assert torch.equal(first, mask_at(adaptive(**fresh), 0, predict(spot(), 1, uncond=False)))
    without = mask_at(adaptive(**fresh), 2, third)
    assert not torch.equal(kept, without), "S_s is not 1 here"
    # The same semantic response at the third level itself gives the same mask.
    uncond = third.semantic - (second.semantic - second.uncond)
    given = Predictions(third.semantic, third.identity, third.readings, uncond)
    assert torch.allclose(kept, mask_at(adaptive(**fresh), 2, given), atol=1e-4)


def test_semantic_saliency_is_one_before_any_uncond_row():
    """As of a semantic response that is the same everywhere, which eq. 5 makes 1."""
    without = predict(spot(), uncond=False)
    even = Predictions(without.semantic, without.identity, without.readings, without.semantic - 1)
    assert torch.allclose(mask_at(adaptive(), 0, without), mask_at(adaptive(), 0, even), atol=1e-4)


def test_decision_reference_uncond_measures_the_identity_from_uncond():
    predictions, fresh = predict(spot()), {"smoothing": 0.0}
    to_semantic, to_uncond = (
        mask_at(adaptive(decision_reference=each, **fresh), 1, predictions) for each in ("semantic", "uncond")
    )
    assert not torch.equal(to_semantic, to_uncond)
    without = Predictions(predictions.semantic, predictions.identity, predictions.readings)
    a, b = (mask_at(adaptive(decision_reference=each, **fresh), 1, without) for each in ("semantic", "uncond"))
    assert torch.equal(a, b), "without an uncond row there is nothing else to measure from"


def test_smoothing_advances_only_when_sigma_falls():
    """Asked twice at a level, or higher up, a policy answers from the same state; lower down it moves."""
    policy, there, elsewhere = adaptive(), predict(spot(), 1), predict(spot(8, 8), 2)
    first = mask_at(policy, 1, there)
    assert torch.equal(mask_at(policy, 1, elsewhere), first)
    assert torch.equal(mask_at(policy, 0.5, elsewhere), first)
    moved = mask_at(policy, 2, elsewhere)
    alone = mask_at(adaptive(), 2, elsewhere)
    assert torch.allclose(moved, 0.5 * first + 0.5 * alone, atol=1e-6)
    assert torch.equal(mask_at(policy, 2, there), moved)


def test_a_later_pass_goes_on_from_the_masks_before():
    predictions = predict(spot())
    fresh = mask_at(adaptive(), 0.0, predictions)
    before = torch.zeros(1, 1, 8, 8)
    before[..., 6:, :2] = 0.5  # of a smaller picture, at half strength
    policy = adaptive(mask_strength=0.5, smoothing=0.5)
    policy.start_from({LINE: before})
    continued = mask_at(policy, 0.0, predictions)
    assert continued.shape == fresh.shape
    assert torch.allclose(continued[..., 13:, :3], torch.full((), 0.25), atol=1e-6)
    assert torch.allclose(continued[..., :10, 6:], fresh[..., :10, 6:] * 0.25, atol=1e-6)


def test_mask_strength_scales_the_mask_and_not_its_state():
    half, whole = adaptive(mask_strength=0.5), adaptive()
    for position, row in ((0, 5), (1, 6), (2, 7)):
        predictions = predict(spot(row), row)
        assert torch.allclose(mask_at(half, position, predictions), 0.5 * mask_at(whole, position, predictions))


@pytest.mark.parametrize(("softness", "gate"), [(0.0, (0.725, 0.725)), (0.5, (0.6, 0.85)), (1.0, (0.475, 0.975))])
def test_gate_widens_with_mask_softness(softness, gate):
    assert adaptive(mask_softness=softness).gate() == pytest.approx(gate)


def test_whole_mask_is_the_mask_strength_everywhere():
    policy = WholeMask(MethodParameters(mask_strength=0.7))
    predictions = predict(AttentionReadings(), batch=2)
    assert policy.compute_maps(predictions) == {}
    assert torch.equal(mask_at(policy, 1, predictions), torch.full((2, 1, 16, 16), 0.7))


def test_mask_mode_chooses_the_policy():
    assert isinstance(choose_mask_policy(MethodParameters()), AdaptiveMask)
    assert isinstance(choose_mask_policy(MethodParameters(mask_mode="whole")), WholeMask)
    assert AdaptiveMask.reads_attention
    assert not WholeMask.reads_attention


def test_a_unet_that_cannot_be_read_is_an_error():
    with pytest.raises(NoAttentionError):
        mask_at(adaptive(), 1, predict(AttentionReadings()))
