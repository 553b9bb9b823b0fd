"""What a host's autocast or device must not change."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.method.attention_maps import compute_probe_shares
from lib_beyondfacial.method.decision import blur
from lib_beyondfacial.method.head_refinement import CropBox, crop_resize, place
from lib_beyondfacial.method.precision import resampling_device


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize(
    "compute",
    [
        lambda: compute_probe_shares(8 * random(1, 5, 16), random(1, 7, 16), 8 * random(3, 16), 2),
        lambda: blur(random(1, 1, 9, 9), 1.5),
    ],
    ids=["probe", "blur"],
)
def test_maps_are_fp32_under_autocast(compute):
    plain = compute()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (random(4, 4) @ random(4, 4)).dtype == torch.bfloat16, "the scope does something"
        same = compute()
    assert same.dtype == torch.float32
    assert torch.equal(same, plain)


def test_apples_gpus_have_their_pictures_resampled_on_the_cpu():
    assert resampling_device(torch.device("mps")) == torch.device("cpu")
    assert resampling_device(torch.device("cuda", 0)) == torch.device("cuda", 0)


def test_resampled_pictures_are_on_the_device_of_the_given_one():
    crop, meta = CropBox(8.0, 8.0, 8.0), torch.zeros(3, 16, 16, device="meta")
    assert crop_resize(meta, crop, 16).device == place(meta, crop, (16, 16)).device == meta.device
