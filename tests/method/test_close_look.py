"""The closer look: geometry by hand, the way there and back, Euler's steps against a known answer, what is held."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.method import close_look
from lib_beyondfacial.method.close_look import Target, View
from lib_beyondfacial.method.engine import RunState
from lib_beyondfacial.method.schedule import Schedule
from lib_beyondfacial.settings import Settings


def test_the_view_is_a_square_round_the_head():
    view = close_look.view_of((80, 40, 120, 90), (512, 768))
    assert view == View(65, 100, close_look.VIEW * 50)


@pytest.mark.parametrize("box", [(0, 0, 310, 310), (10, 10, 10, 10)])
def test_no_view_of_a_head_that_fills_the_picture_or_is_none(box):
    assert close_look.view_of(box, (512, 512)) is None


def ramp(height: int, width: int) -> torch.Tensor:
    """A picture that says where each pixel's middle is."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([y, x, y - x])


def test_enlarging_shows_the_square_itself():
    near = close_look.enlarge(ramp(64, 96), View(30, 50, 16), 32)
    wanted = 22 + (torch.arange(32) + 0.5) * 0.5
    # torch's bicubic (a = -0.75) bends a ramp by a twentieth of a pixel
    assert torch.allclose(near[0], wanted[:, None].expand(32, 32), atol=0.06)
    assert torch.allclose(near[1], (wanted + 20)[None].expand(32, 32), atol=0.06)


def test_beyond_the_edge_the_edge_goes_on():
    near = close_look.enlarge(ramp(64, 64), View(0, 32, 16), 16)
    assert torch.allclose(near[0, :7], torch.full((7, 16), 0.5), atol=0.2)


@given(y=st.floats(20, 44), x=st.floats(20, 76), side=st.floats(12, 30), zoom=st.sampled_from([2, 3]))
def test_there_and_back_is_the_picture(y, x, side, zoom):
    picture, view = ramp(64, 96), View(y, x, side)
    back = close_look.put_back(picture, close_look.enlarge(picture, view, round(zoom * side)), view)
    assert (back - picture).abs().max() < 0.3  # of a pixel: the ramp's own unit


def test_outside_the_oval_nothing_changes():
    picture = ramp(64, 96)
    view = View(32, 48, 20)
    back = close_look.put_back(picture, torch.zeros(3, 60, 60), view)
    inside = close_look.oval(view, (64, 96), (64, 96))[0]
    assert torch.equal(back[:, inside == 0], picture[:, inside == 0])
    assert back[:, inside == 1].abs().max() < 1e-3
    assert float(inside[32, 48]) == 1


def test_the_oval_is_the_same_one_on_the_latents_grid():
    view = View(100, 300, 80)
    fine, coarse = (close_look.oval(view, (512, 768), (512 // f, 768 // f))[0] for f in (1, 8))
    assert torch.allclose(torch.nn.functional.avg_pool2d(fine[None], 8)[0], coarse, atol=0.25)
    assert float(coarse.mean()) == pytest.approx(float(fine.mean()), rel=0.03)


def test_what_the_autoencoder_loses_is_added_before_it_is_lost():
    """A decoder that gives back 0.8 of what it was given leaves 0.2 of a picture wanting, then 0.2 of these."""
    y = torch.rand(3, 8, 8)
    z = close_look.encode_closely(y, lambda picture: picture, lambda latents: 0.8 * latents)
    assert torch.allclose(z, 1.2 * y)
    assert torch.equal(close_look.encode_closely(y, lambda picture: picture / 2, lambda latents: 2 * latents), y / 2)


@pytest.mark.parametrize(("sigma", "first"), [(0.4, 2.5), (1.0, 2.5), (1.5, 3.0), (2.5, 5.0)])
def test_the_near_levels_fall_from_twice_the_level_to_zero(sigma, first):
    levels = close_look.near_sigmas(sigma)
    assert levels[0] == pytest.approx(first)
    assert levels[-1] == 0
    assert levels == sorted(levels, reverse=True)
    assert len(levels) == close_look.STEPS + 1


def test_settling_follows_the_posterior_mean_of_one_known_picture():
    """Where there is only one picture, x0 is that picture at every level: Euler arrives at it exactly."""
    generator = torch.Generator().manual_seed(1)
    only, z, noise = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(3))
    asked = []

    def predict(x, sigma):
        asked.append(sigma)
        return only

    found = close_look.settle(predict, z, noise, [4.0, 1.0, 0.0])
    assert torch.allclose(found, only)
    assert asked == [4.0, 1.0]


def test_settling_a_gaussian_is_eulers_own_recursion():
    """x0 of unit-variance data is x / (1 + sigma^2): each step multiplies x by a known number."""
    z, noise = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    found = float(close_look.settle(lambda x, sigma: x / (1 + sigma**2), z, noise, [2.0, 1.0, 0.0]))
    wanted = 2.0 * (1 / 5 + 0.5 * 4 / 5) * (1 / 2)
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("size", "most", "side"),
    [((512, 768), 768, 512), ((2048, 1024), 1024, 1024), ((1000, 600), 768, 576), ((40, 40), 768, 40)],
)
def test_the_near_views_side_is_one_the_model_knows(size, most, side):
    assert close_look.near_side(size, most) == side


def target(held, seen, value=1.0):
    return Target(torch.full((2, 4, 6, 6), value), torch.ones(2, 1, 6, 6), held, seen)


def test_a_later_look_adds_what_an_earlier_one_did_not_find():
    both = target((True, False), (True, False), 1.0).or_else(target((False, True), (False, True), 2.0))
    assert both.held == both.seen == (True, True)
    assert float(both.denoised[0].mean()) == 1
    assert float(both.denoised[1].mean()) == 2


@pytest.fixture
def state():
    """A pass of a batch of two in which attention has found a region."""
    state = RunState(Settings(), Schedule((14.0, 5.0, 2.0, 1.0, 0.1)))
    state.region = torch.ones(2, 1, 6, 6)
    return state


def test_there_is_a_look_at_each_of_the_levels_until_all_is_seen(state):
    assert [sigma for sigma in (14.0, 2.6, 2.5, 2.0) if state.wants_look(sigma)] == [2.5, 2.0]
    state.keep(target((True, False), (True, False)), 2.5)
    assert [sigma for sigma in (2.4, 1.6, 1.5, 0.1) if state.wants_look(sigma)] == [1.5, 0.1]
    assert state.wants_identity_line(1.6)
    state.keep(target((False, False), (False, True)), 1.5)
    assert not state.wants_look(0.9)
    assert state.wants_identity_line(0.9), "a head that is near enough as it is goes on as ever"


def test_there_is_no_look_unless_it_is_asked_for(state):
    state.settings = Settings(refine_head=False)
    assert not state.wants_look(1.0)
    state.settings = Settings(mask_mode="whole")
    assert not state.wants_look(1.0)


@given(cfg=st.floats(1, 20), to_x0=st.sampled_from([1.0, -2.0, -0.5]), strength=st.floats(0.1, 1))
def test_what_is_held_becomes_the_target_behind_cfg_and_nothing_else_changes(cfg, to_x0, strength):
    generator = torch.Generator().manual_seed(2)
    state = RunState(Settings(mask_strength=strength), Schedule((2.0, 1.0)))
    delta, denoised = torch.randn(2, 2, 4, 6, 6, generator=generator)
    mask = torch.zeros(2, 1, 6, 6)
    mask[:, :, 2:4, 2:4] = 1
    found = Target(torch.randn(2, 4, 6, 6, generator=generator), mask, (True, False), (True, False))
    gain = cfg * to_x0
    assert state.hold(delta, denoised, gain) is delta
    state.keep(found, 1.0)
    held = state.hold(delta, denoised, gain)
    after = denoised + gain * held
    wanted = torch.lerp(denoised[0], found.denoised[0], strength)
    assert torch.allclose(after[0, :, 2:4, 2:4], wanted[:, 2:4, 2:4], atol=1e-4)
    assert (held[0, :, 0] == 0).all()
    assert torch.equal(held[1], delta[1])
    assert state.hold(delta, denoised, 0.0) is delta


def test_once_all_is_held_the_identity_line_rests(state):
    state.keep(target((True, True), (True, True)), 2.0)
    assert not state.wants_identity_line(1.0)
    assert (state.reuse(torch.ones(2, 4, 6, 6)) == 0).all()


def test_the_oval_lies_in_what_was_seen():
    assert close_look.OVAL * (1 + close_look.EDGE) <= 0.5
