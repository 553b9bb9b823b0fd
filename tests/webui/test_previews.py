"""Masks as pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lib_beyondfacial.webui.previews import heat_map, plain_mask

CORNER = np.zeros((16, 24), np.float32)
CORNER[:8, :12] = 1.0


def test_plain_mask_is_white_where_the_identity_is():
    picture = np.asarray(plain_mask(CORNER, (192, 128)))
    assert picture.shape == (128, 192, 3)
    assert (picture[:56, :88] == 255).all()
    assert (picture[72:, 104:] == 0).all()


def test_no_mask_is_black():
    assert not np.asarray(plain_mask(None, (64, 32))).any()
    assert plain_mask(None, (64, 32)).size == (64, 32)


def test_values_outside_and_nan_stay_inside():
    picture = np.asarray(plain_mask(np.array([[2.0, -1.0], [np.nan, 0.5]]), (2, 2)))[..., 0]
    assert picture.tolist() == [[255, 0], [0, 128]]


def test_heat_map_shows_the_picture_and_reddens_the_mask():
    ground = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8))
    picture = np.asarray(heat_map(ground, CORNER)).astype(int)
    inside, outside = picture[:56, :88], picture[72:, 104:]
    assert (inside[..., 0] - inside[..., 2]).min() > 100
    assert (outside[..., 0] == outside[..., 2]).all()
    assert outside.std() > 20
