"""What is put in place of the method's parts does what its name says, and goes again."""

from types import SimpleNamespace

import pytest
import torch

from bench.alternatives import ALTERNATIVES, box_mask, compute_argmax_mask
from lib_beyondfacial.hosts import a1111, a1111_start
from lib_beyondfacial.method import decision
from lib_beyondfacial.method.engine import Lines, Readings, RunState
from lib_beyondfacial.method.schedule import Schedule
from lib_beyondfacial.settings import FIELDS

ELSEWHERE = (
    "prior_start",
    "rollout_start",
    "branch_in_region",
    "branch_in_last_region",
    "closer_look",
)  # in the start, in the identity line, at a later level
BOXES = [(0.25, 0.125, 0.5, 0.375), None]


def noise(seed):
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def lines():
    return Lines(semantic=noise(1), identity=noise(2), uncond=noise(3))


def readings():
    def site(seed, side):
        return torch.rand(2, side * side, generator=torch.Generator().manual_seed(seed))

    return Readings(head=[site(4, 16), site(5, 8)], person=[site(6, 16)], energy=[site(7, 16), site(8, 8)])


def fused_mask(alternative=None, **given):
    settings = SimpleNamespace(**{f.key: f.default for f in FIELDS} | {"smoothing": 0.0} | given)
    state = RunState(settings, Schedule((3.0, 2.0, 1.0)))
    if alternative is None:
        state.fuse(3.0, lines(), readings())
    else:
        with ALTERNATIVES[alternative](BOXES):
            state.fuse(3.0, lines(), readings())
    return state.fused_mask


def parts():
    owners = (RunState, decision, a1111, a1111_start)
    return [value for owner in owners for value in vars(owner).values() if callable(value)]


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_each_changes_what_is_fused_and_is_gone_afterwards(name):
    before, usual = parts(), fused_mask()
    changed = fused_mask(name)
    assert parts() == before
    assert torch.equal(fused_mask(), usual)
    assert changed.shape == usual.shape
    if name not in ELSEWHERE:
        assert not torch.equal(changed, usual)


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_an_exception_takes_it_away_too(name):
    before = parts()
    with pytest.raises(KeyError), ALTERNATIVES[name](BOXES):
        raise KeyError
    assert parts() == before


def test_the_relatives_take_the_larger_softmax_of_the_smoothed_responses():
    given = lines()
    flat = noise(9) * 0 + 1.0
    peak = flat.clone()
    peak[:, :, 4, 4] = 9.0
    given = Lines(semantic=given.uncond + flat, identity=given.uncond + peak, uncond=given.uncond)
    mask = compute_argmax_mask(given)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask[0, 0, 4, 4] == 1
    assert mask[0, 0, 12, 12] == 0
    assert mask.mean() < 0.1
    with pytest.raises(RuntimeError, match="unconditional"):
        compute_argmax_mask(Lines(given.semantic, given.identity))


def test_the_oracles_mask_covers_the_box_by_parts_of_pixels():
    mask = box_mask([(0.25, 0.125, 0.53125, 0.375), None, (0.0, 0.0, 1.0, 1.0)], 16, 16)
    assert mask[0].sum() == pytest.approx(4.5 * 4)
    assert mask[0, 0, 2, 4] == 1
    assert mask[0, 0, 2, 8] == pytest.approx(0.5)
    assert mask[0, 0, 1].sum() == 0
    assert mask[1].sum() == 0
    assert mask[2].min() == 1
    assert torch.equal(fused_mask("oracle_mask"), box_mask(BOXES, 16, 16))


def test_without_attention_saliency_over_the_picture_decides():
    given, everywhere = lines(), torch.ones(2, 1, 16, 16, dtype=torch.bool)
    sigma = 0.22 * 16 / 5
    s_i = decision.compute_saliency(given.identity - given.semantic, everywhere, sigma)
    s_s = decision.compute_saliency(given.semantic - given.uncond, everywhere, sigma)
    expected = torch.sigmoid(8 * (0.5 * s_i - 0.5 * s_s - 0.2))
    assert torch.allclose(fused_mask("no_attention"), torch.where(expected < 1 / 255, 0.0, expected), atol=1e-6)


def test_without_the_decision_the_gate_is_the_mask():
    state = RunState(SimpleNamespace(mask_softness=0.5), Schedule((1.0,)))
    gate = decision.smoothstep(state.compute_region(readings(), (16, 16)), *state.gate())
    assert torch.equal(fused_mask("no_decision"), torch.where(gate < 1 / 255, 0.0, gate))
    assert (fused_mask("argmax_in_region") <= gate + 1e-6).all()
