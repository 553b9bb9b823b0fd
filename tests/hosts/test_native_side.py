"""Heads are refined at the size that the model was trained on, whatever the picture's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lib_beyondfacial.hosts.model import native_side
from lib_beyondfacial.sampling.plan import Plan
from lib_beyondfacial.settings import Settings


@pytest.mark.parametrize(
    ("model", "side"),
    [
        ({}, 512),
        ({"is_sdxl": True}, 1024),
        ({"image_size": 24}, 192),
        ({"image_size": None}, 512),
    ],
)
def test_native_side(model, side):
    assert native_side(SimpleNamespace(**model)) == side


@pytest.mark.parametrize(("asked", "side"), [(0, 512), (768, 768), (100, 64), (1, 64), (2048, 2048)])
def test_refine_size_is_the_users_else_the_models(asked, side):
    assert Plan(Settings(refine_size=asked), (), lambda image: []).refine_size(512) == side
