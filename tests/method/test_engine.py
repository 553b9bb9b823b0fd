"""One pass of the engine: windows, reuse, the missing uncond row, and that a RunState forgets nothing it needs."""

from types import SimpleNamespace

import pytest
import torch

from lib_beyondfacial.method.engine import Lines, Readings, RunState, compute_semantic_map
from lib_beyondfacial.method.schedule import Schedule

LEVELS = [14.6, 10, 5, 2, 1, 0.3, 0.1, 0.03, 0.0]
DEFAULTS = {
    "start": 0.0,
    "stop": 1.0,
    "stride": 1,
    "mask_mode": "adaptive",
    "mask_strength": 1.0,
    "mask_softness": 0.5,
}
DEFAULTS |= {"decision_reference": "semantic", "smoothing": 0.5, "rho": 1.0, "style": 0.0}


def state(**changes):
    return RunState(SimpleNamespace(**(DEFAULTS | changes)), Schedule.from_levels(LEVELS))


def lines(seed=0, batch=1, uncond=True):
    g = torch.Generator().manual_seed(seed)
    s, i, u = (torch.randn(batch, 4, 16, 16, generator=g) for _ in range(3))
    return Lines(s, i, u if uncond else None)


def spot(row=5, column=9, batch=1, strength=0.4):
    fine, coarse = torch.full((batch, 16, 16), 0.01), torch.full((batch, 8, 8), 0.01)
    fine[:, row - 1 : row + 2, column - 1 : column + 2] = strength
    coarse[:, row // 2, column // 2] = strength
    return Readings([fine.flatten(1), coarse.flatten(1)], [], [fine.flatten(1), coarse.flatten(1)])


def test_the_mask_sits_where_the_head_probe_looks_and_delta_nowhere_else():
    run, three = state(), lines()
    delta = run.fuse(10.0, three, spot())
    mask = run.fused_mask[0, 0]
    assert mask[5, 9] > 0.5
    assert mask[12:].abs().max() == 0
    assert torch.allclose(
        delta, torch.where(run.fused_mask > 0, run.fused_mask * (three.identity - three.semantic), 0), atol=1e-6
    )
    assert not delta[..., 12:, :].any()


def test_no_head_in_the_picture_means_no_identity_anywhere():
    even = Readings([torch.full((1, 256), 0.3)], [], [torch.rand(1, 256)])
    nothing = Readings([torch.rand(1, 256) * 0.04], [], [torch.rand(1, 256)])
    for readings in (even, nothing):
        assert not state().fuse(10.0, lines(), readings).any()


def test_the_person_words_stand_in_where_the_head_probe_finds_nothing():
    seen = spot()
    readings = Readings([1e-6 * h for h in seen.head], seen.head, seen.energy)
    a = compute_semantic_map(readings, (16, 16))[0, 0]
    assert a[5, 9] > 0.9
    assert a[12:].max() < 0.1
    assert not compute_semantic_map(Readings(readings.head, [], []), (16, 16)).any()


def test_every_image_of_a_batch_is_judged_by_itself():
    torch.manual_seed(0)
    three, readings = lines(batch=2), spot(batch=2)
    moved = spot(11, 3, 1)
    both = Readings(
        *[
            [torch.cat([a[:1], b]) for a, b in zip(getattr(readings, k), getattr(moved, k), strict=True)] or []
            for k in ("head", "person", "energy")
        ]
    )
    together = state().fuse(10.0, three, both)
    for i, own in enumerate((spot(), moved)):
        single = Lines(three.semantic[i : i + 1], three.identity[i : i + 1], three.uncond[i : i + 1])
        assert torch.allclose(together[i : i + 1], state().fuse(10.0, single, own), atol=1e-6)


def test_without_an_uncond_row_the_last_semantic_saliency_serves_and_before_any_it_is_one():
    run = state()
    run.fuse(14.6, lines(1, uncond=False), spot())
    assert run.saliency_semantic is None
    run.fuse(10.0, lines(2), spot())
    kept = run.saliency_semantic
    run.fuse(5.0, lines(3, uncond=False), spot())
    assert run.saliency_semantic is kept


def test_the_smoothing_state_advances_only_when_sigma_falls():
    run = state()
    run.fuse(10.0, lines(1), spot())
    first = run.mask
    run.fuse(10.0, lines(2), spot(8, 8))
    assert run.mask is first
    run.fuse(12.0, lines(2), spot(8, 8))
    assert run.mask is first
    run.fuse(5.0, lines(2), spot(8, 8))
    assert run.mask is not first


def test_stride_reuses_the_difference_in_x0_space():
    run, three = state(stride=3, mask_mode="whole"), lines()
    assert run.wants_identity_line(14.6)
    delta = run.fuse(14.6, three, Readings(), to_x0=-2.0)
    assert not run.wants_identity_line(10)
    assert not run.wants_identity_line(5)
    assert run.wants_identity_line(2)
    assert torch.allclose(run.reuse(three.semantic, to_x0=-4.0), delta / 2, atol=1e-6)


def test_whole_is_single_line_injection():
    three = lines()
    delta = state(mask_mode="whole").fuse(10.0, three, Readings())
    assert torch.allclose(three.semantic + delta, three.identity, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "level"), [({"mask_strength": 0.0}, 10), ({"start": 0.5}, 14.6), ({"stop": 0.25}, 5.0)]
)
def test_outside_its_window_and_at_strength_zero_it_is_not_active(changes, level):
    assert not state(**changes).active(level)
    assert state().active(level)


def test_rho_zero_gives_zeros_although_the_line_ran():
    run = state(rho=0.0)
    assert not run.fuse(10.0, lines(), spot()).any()
    assert run.fused_mask.max() > 0.5


def test_a_unet_that_cannot_be_read_is_no_silent_plain_picture():
    with pytest.raises(RuntimeError, match="no cross-attention"):
        state().fuse(10.0, lines(), Readings())
