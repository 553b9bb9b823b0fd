"""Head refinement: geometry by hand, the way there and back, Euler's steps against a known answer, eq. 15."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.method import head_refinement as eq
from lib_beyondfacial.method.head_refinement import CropBox, RefinedHeads, VarianceExploding
from lib_beyondfacial.method.start_noise import Box


def test_crop_is_a_square_around_the_head():
    assert eq.crop_around((80, 40, 120, 90), (512, 768)) == CropBox(65, 100, eq.CROP * 50)


def test_a_close_ups_square_is_as_wide_as_the_picture():
    assert eq.crop_around((100, 90, 400, 410), (512, 768)) == CropBox(250, 250, 512)


@pytest.mark.parametrize("box", [(0, 0, 410, 410), (10, 10, 10, 10)])
def test_no_crop_of_a_head_that_fills_the_picture_or_is_empty(box):
    assert eq.crop_around(box, (512, 512)) is None


def ramp(height: int, width: int) -> torch.Tensor:
    """A picture that says where each pixel's middle is."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([y, x, y - x])


def test_crop_resize_shows_the_square_itself():
    large = eq.crop_resize(ramp(64, 96), CropBox(30, 50, 16), 32)
    wanted = 22 + (torch.arange(32) + 0.5) * 0.5
    # torch's bicubic (a = -0.75) bends a ramp by a twentieth of a pixel
    assert torch.allclose(large[0], wanted[:, None].expand(32, 32), atol=0.06)
    assert torch.allclose(large[1], (wanted + 20)[None].expand(32, 32), atol=0.06)


def test_crop_resize_is_border_replicated():
    large = eq.crop_resize(ramp(64, 64), CropBox(0, 32, 16), 16)
    assert torch.allclose(large[0, :7], torch.full((7, 16), 0.5), atol=0.2)


@given(y=st.floats(20, 44), x=st.floats(20, 76), side=st.floats(12, 30), zoom=st.sampled_from([2, 3]))
def test_crop_resize_and_paste_is_the_picture(y, x, side, zoom):
    picture, crop = ramp(64, 96), CropBox(y, x, side)
    back = eq.paste(picture, eq.crop_resize(picture, crop, round(zoom * side)), crop)
    assert (back - picture).abs().max() < 0.3  # of a pixel: the ramp's own unit


def test_paste_changes_nothing_outside_the_ellipse():
    picture = ramp(64, 96)
    crop = CropBox(32, 48, 20)
    back = eq.paste(picture, torch.zeros(3, 60, 60), crop)
    inside = eq.elliptical_mask(crop, (64, 96), (64, 96))[0]
    assert torch.equal(back[:, inside == 0], picture[:, inside == 0])
    assert back[:, inside == 1].abs().max() < 1e-3
    assert float(inside[32, 48]) == 1


def test_ellipse_is_the_same_on_the_latents_grid():
    crop = CropBox(100, 300, 80)
    fine, coarse = (eq.elliptical_mask(crop, (512, 768), (512 // f, 768 // f))[0] for f in (1, 8))
    assert torch.allclose(torch.nn.functional.avg_pool2d(fine[None], 8)[0], coarse, atol=0.25)
    assert float(coarse.mean()) == pytest.approx(float(fine.mean()), rel=0.03)


def test_ellipse_lies_in_the_crop():
    assert eq.RADIUS * (1 + eq.EDGE) <= 0.5


def test_window_holds_the_square_and_a_margin():
    assert eq.window_around(CropBox(100, 200, 40), (512, 768), (64, 96)) == Box(7, 19, 18, 31)
    assert eq.window_around(CropBox(4, 764, 40), (512, 768), (64, 96)) == Box(0, 90, 6, 96), "cut at the border"


@given(y=st.floats(0, 512), x=st.floats(0, 768), side=st.floats(10, 500))
def test_window_lies_in_the_latents_and_holds_the_ellipse(y, x, side):
    crop = CropBox(y, x, side)
    window = eq.window_around(crop, (512, 768), (64, 96))
    outside = eq.elliptical_mask(crop, (512, 768), (64, 96)).clone()
    assert window.cut(outside).shape == (1, *window.size)
    window.cut(outside).zero_()
    assert not outside.any()


def test_refine_sigmas_fall_from_far_above_the_level_to_zero():
    sigmas = VarianceExploding().refine_sigmas()
    assert sigmas[0] == 5.0 > 3 * max(eq.REFINE_AT)
    assert sigmas[-1] == 0
    assert sigmas == sorted(sigmas, reverse=True)
    assert len(sigmas) == eq.STEPS + 1


@pytest.mark.parametrize(
    ("sigma", "cfg_scale", "scale"),
    [(5.0, 7.0, 4.0), (5.0, 2.5, 2.5), (2.0, 7.0, 4.0), (1.9, 7.0, 1.0), (5.0, 1.0, 1.0)],
)
def test_a_crop_is_guided_while_it_is_noisy(sigma, cfg_scale, scale):
    assert eq.guidance_at(sigma, cfg_scale) == scale


def test_rows_of_a_head():
    """Five steps; the first three also without the prompt."""
    assert eq.rows_of_a_head(7.0) == 8
    assert eq.rows_of_a_head(1.0) == 5


def test_noised_is_x0_plus_sigma_noise():
    x0, noise = torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 0.5)
    assert torch.equal(VarianceExploding().noised(x0, noise, 4.0), torch.full((1, 1, 2, 2), 5.0))


def test_euler_arrives_at_the_one_known_picture():
    """Where there is only one picture, x0 is that picture at every level."""
    generator = torch.Generator().manual_seed(1)
    only, x = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
    asked = []

    def predict(x, sigma):
        asked.append(sigma)
        return only

    assert torch.allclose(eq.sample_euler(predict, x, [4.0, 1.0, 0.0]), only)
    assert asked == [4.0, 1.0]


def test_euler_of_a_gaussian_is_its_recursion():
    """x0 of unit-variance data is x / (1 + sigma^2): each step multiplies x by a known number."""
    x = torch.full((1, 1, 1, 1), 2.0)
    found = float(eq.sample_euler(lambda x, sigma: x / (1 + sigma**2), x, [2.0, 1.0, 0.0]))
    assert found == pytest.approx(2.0 * (1 / 5 + 0.5 * 4 / 5) * (1 / 2))


@pytest.mark.parametrize(("sigma", "due"), [(14.0, 0), (1.7, 0), (1.6, 1), (1.1, 1), (1.0, 2), (0.6, 3), (0.1, 3)])
def test_attempts_are_due_at_and_below_their_levels(sigma, due):
    assert eq.attempts_due(sigma) == due


def heads(refined, done, value=1.0):
    ellipse = torch.tensor(refined).float()[:, None, None, None].expand(2, 1, 6, 6)
    return RefinedHeads(torch.full((2, 4, 6, 6), value), {"one": ellipse}, {"one": refined}, {"one": done})


def test_merge_keeps_the_earlier_heads_and_adds_the_later_ones():
    both = heads((True, False), (True, False), 1.0).merge(heads((False, True), (False, True), 2.0))
    assert both.refined == both.done == {"one": (True, True)}
    assert float(both.denoised[0].mean()) == 1
    assert float(both.denoised[1].mean()) == 2


def test_replace_masks_puts_the_ellipse_where_a_head_is_refined():
    masks = {"one": torch.full((2, 1, 6, 6), 0.3)}
    found = heads((True, False), (True, False)).replace_masks(masks, 0.8)
    assert torch.equal(found["one"][0], torch.full((1, 6, 6), 0.8))
    assert torch.equal(found["one"][1], masks["one"][1])


@given(guidance=st.sampled_from([1.0, 5.0, 20.0, 0.5]), strength=st.floats(0.1, 1), rho=st.sampled_from([1.0, 0.5]))
def test_apply_target_sets_x0_behind_cfg_to_the_head(guidance, strength, rho):
    generator = torch.Generator().manual_seed(2)
    delta, denoised = torch.randn(2, 2, 4, 6, 6, generator=generator)
    mask = torch.zeros(2, 1, 6, 6)
    mask[:, :, 2:4, 2:4] = 1
    mask[1] = 0
    yes_no = {"one": (True, False)}
    found = RefinedHeads(torch.randn(2, 4, 6, 6, generator=generator), {"one": mask}, yes_no, yes_no)
    pulled = eq.apply_target(delta, found, denoised, guidance, strength, rho)
    after = denoised + guidance * pulled
    wanted = torch.lerp(denoised[0], found.denoised[0], strength * rho)
    assert torch.allclose(after[0, :, 2:4, 2:4], wanted[:, 2:4, 2:4], atol=1e-4)
    assert (pulled[0, :, 0] == 0).all()
    assert torch.equal(pulled[1], delta[1])


def test_apply_target_leaves_delta_without_heads_or_guidance():
    delta, denoised = torch.ones(2, 2, 4, 6, 6)
    assert eq.apply_target(delta, None, denoised, 5.0) is delta
    assert eq.apply_target(delta, heads((False, False), (True, True)), denoised, 5.0) is delta
    assert eq.apply_target(delta, heads((True, True), (True, True)), denoised, 0.0) is delta


def test_of_two_heads_one_may_be_refined_while_the_other_line_goes_on():
    left, right = torch.zeros(2, 1, 1, 6, 6)
    left[..., :2], right[..., 4:] = 1, 1
    both, one = {"a": (True,), "b": (True,)}, {"a": (True,), "b": (False,)}
    first = RefinedHeads(torch.full((1, 4, 6, 6), 7.0), {"a": left, "b": torch.zeros_like(right)}, one, one)
    delta = torch.full((1, 4, 6, 6), 0.5)
    pulled = eq.apply_target(delta, first, torch.zeros(1, 4, 6, 6), 1.0)
    assert (pulled[..., :2] == 7).all()
    assert (pulled[..., 2:] == 0.5).all(), "the other line's"
    masks = first.open_masks({"a": torch.ones(1, 1, 6, 6), "b": torch.ones(1, 1, 6, 6)})
    assert float(masks["a"].max()) == 0
    assert float(masks["b"].min()) == 1
    later = RefinedHeads(torch.full((1, 4, 6, 6), 9.0), {"a": torch.zeros_like(left), "b": right}, both, both)
    merged = first.merge(later)
    assert merged.in_pictures == (True,)
    pulled = eq.apply_target(delta, merged, torch.zeros(1, 4, 6, 6), 1.0)
    assert pulled[0, 0, 0].tolist() == [7, 7, 0, 0, 9, 9]
    shown = merged.replace_masks({"b": torch.ones(1, 1, 6, 6)}, 0.5)
    assert shown["a"][0, 0, 0].tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert shown["b"][0, 0, 0].tolist() == [0, 0, 0, 0, 0.5, 0.5]
