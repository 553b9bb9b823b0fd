"""The sampler's start: its scale, where the head will be, and the reference as a latent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib_beyondfacial.method.predictions import AttentionReadings
from lib_beyondfacial.method.start_noise import Box, prior_box
from lib_beyondfacial.sampling.start_noise import (
    GREY,
    encode_reference,
    find_head_boxes,
    find_scale,
    pixels_per_latent,
)
from tests.sampling.conftest import SIZE, spot


def random(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1.0, 14.6, 0.07])
def test_scale_is_found_by_projection(scale):
    noise = random(1)
    assert find_scale(noise, scale * noise) == pytest.approx(scale, rel=1e-5)


def test_scale_of_another_noise_is_its_spread():
    start = 3 * random(2)
    assert find_scale(random(1), start) == pytest.approx(float(start.std()))


def test_head_box_is_where_the_probe_points_else_the_prior():
    (found,) = find_head_boxes(spot(4, 9), 1, SIZE)
    assert found.top <= 4 < found.bottom
    assert found.left <= 9 < found.right
    assert find_head_boxes(AttentionReadings(), 2, SIZE) == [prior_box(*SIZE)] * 2
    even = AttentionReadings([torch.full((1, 96), 0.3)])
    assert find_head_boxes(even, 1, SIZE) == [prior_box(*SIZE)]


def test_head_box_of_half_the_picture_is_no_head():
    wide = torch.full((1, *SIZE), 0.01)
    wide[:, 1:7, 2:10] = 0.4
    assert find_head_boxes(AttentionReadings([wide.flatten(1)]), 1, SIZE) == [prior_box(*SIZE)]


def test_reference_is_encoded_on_grey_and_cut_to_its_box():
    shown = []

    def encode(picture):
        shown.append(picture)
        return torch.nn.functional.avg_pool2d(picture, 8)

    crop, box = np.full((40, 40, 3), 255, np.uint8), Box(2, 5, 5, 8)
    latent = encode_reference(encode, crop, box, SIZE, 8)
    assert latent.shape == (3, 3, 3)
    assert torch.allclose(latent[:, 1, 1], torch.ones(3), atol=1e-3)
    ((picture,),) = shown
    assert picture.shape == (3, 64, 96)
    grey = GREY / 127.5 - 1
    outside = torch.ones(64, 96, dtype=torch.bool)
    outside[16:40, 40:64] = False
    assert torch.allclose(picture[:, outside], torch.tensor(grey))
    assert torch.allclose(picture[:, 16, 40], torch.tensor(grey), atol=1e-2), "the corners of an ellipse are grey"


@pytest.mark.parametrize(("width", "latent_width", "factor"), [(512, 64, 8), (512, 128, 4), (500, 62, 8)])
def test_pixels_per_latent_follow_from_the_widths(width, latent_width, factor):
    assert pixels_per_latent(width, latent_width) == factor
