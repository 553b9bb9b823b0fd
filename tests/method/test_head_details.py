"""A refined head's details in the finished picture (eq. 18): by hand, and nothing outside the head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.method.decision import blur
from lib_beyondfacial.method.head_details import COARSE, FACE, DrawnHead, finish_pictures
from lib_beyondfacial.method.head_refinement import CropBox, elliptical_mask

SIZE = (96, 128)
CROP = CropBox(48.0, 64.0, 40.0)
MASK = elliptical_mask(CROP, SIZE, SIZE, FACE)


def stripes(period: int, height: int = 40, width: int = 40) -> torch.Tensor:
    """A grey square with vertical stripes, in [-1, 1]."""
    return (0.5 * torch.sin(torch.arange(width) * 2 * torch.pi / period)).expand(3, height, width).clone()


def head(pixels: torch.Tensor, strength: float = 1.0, image: int = 0) -> DrawnHead:
    return DrawnHead(pixels, CROP, SIZE, image, strength)


def grey(value: float = 0.5) -> torch.Tensor:
    return torch.full((3, *SIZE), value)


def test_fine_stripes_are_added_and_a_colour_is_not():
    """At the middle the whole of what is finer than the blur; of a head of another colour, the stripes alone."""
    picture = grey()
    head(stripes(4) + 0.1).add_to(picture)
    middle = picture[:, 48, 60:68]
    assert torch.allclose(middle, 0.5 + stripes(4)[:, 20, 16:24] / 2, atol=0.02)


def test_what_the_autoencoder_has_washed_out_comes_back():
    """A picture that shows the drawn head without its details has them afterwards."""
    drawn = stripes(8)
    washed = grey()
    washed[:, 28:68, 44:84] += drawn / 2
    sharp = washed.clone()
    washed = blur(washed[:, None], 3.0)[:, 0]
    before = (washed - sharp)[:, 40:56, 56:72].abs().mean()
    head(drawn).add_to(washed)
    assert (washed - sharp)[:, 40:56, 56:72].abs().mean() < 0.1 * before


@given(
    y=st.floats(0, SIZE[0]), x=st.floats(0, SIZE[1]), side=st.floats(8, 90), seed=st.integers(0, 99),
    strength=st.floats(0, 1),
)  # fmt: skip
def test_nothing_changes_outside_the_mask_and_all_stays_in_range(y, x, side, seed, strength):
    generator, crop = torch.Generator().manual_seed(seed), CropBox(y, x, side)
    picture = torch.rand(3, *SIZE, generator=generator)
    before = picture.clone()
    pixels = torch.rand(3, 64, 64, generator=generator) * 2 - 1
    DrawnHead(pixels, crop, SIZE, 0, strength).add_to(picture)
    outside = (elliptical_mask(crop, SIZE, SIZE, FACE) == 0).expand(3, -1, -1)
    assert torch.equal(picture[outside], before[outside])
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


@pytest.mark.parametrize(
    "changes",
    [{"strength": 0.0}, {"size": (192, 256)}, {"pixels": torch.ones(3, 40, 40)}],
    ids=["not held at all", "of a pass of another size", "another head in this place"],
)
def test_a_picture_that_does_not_show_this_head_stays_bit_for_bit(changes):
    picture = grey() + 0.1 * torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))
    before = picture.clone()
    replace(head(stripes(4)), **changes).add_to(picture)
    assert torch.equal(picture, before)


def test_half_the_strength_is_half_the_change():
    whole, half = grey(), grey()
    head(stripes(6)).add_to(whole)
    head(stripes(6), strength=0.5).add_to(half)
    assert torch.allclose(half - 0.5, (whole - 0.5) / 2, atol=1e-6)


def test_the_mask_fades_the_details_out():
    picture = grey()
    head(stripes(4)).add_to(picture)
    edge = (MASK > 0) & (MASK < 0.5)
    assert 0 < (picture - 0.5)[edge.expand(3, -1, -1)].abs().max() < (picture - 0.5)[:, 48].abs().max()


def test_each_head_goes_into_its_picture_in_place():
    batch = torch.stack([grey(), grey(), grey()])
    finish_pictures(batch, [head(stripes(4), image=1), head(stripes(4), image=7)])
    assert torch.equal(batch[0], grey())
    assert torch.equal(batch[2], grey())
    assert (batch[1] - grey()).abs().max() > 0.1


def test_half_precision_pictures():
    picture, half = grey(), grey().half()
    head(stripes(4)).add_to(picture)
    head(stripes(4)).add_to(half)
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), picture, atol=2e-3)


def test_the_blur_is_two_latent_pixels():
    assert COARSE == 2 * 8
