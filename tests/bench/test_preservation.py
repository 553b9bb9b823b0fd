"""What is left of the plain picture: outside the heads, by hand."""

import numpy as np
import pytest

from bench.preservation import compare_outside, outside_heads

HEAD = (0.25, 0.25, 0.5, 0.5)
PLAIN = np.random.default_rng(3).integers(0, 200, (40, 40, 3)).astype(np.uint8)


def test_a_heads_box_is_enlarged_about_its_centre():
    outside = outside_heads([HEAD], 40, 40)
    assert (~outside).sum() == 18 * 18
    assert not outside[6:24, 6:24].any()
    assert outside_heads([], 40, 80).all()
    assert (~outside_heads([(0.9, 0.9, 1.0, 1.0)], 40, 40)).sum() == 6 * 6


def test_changes_inside_a_head_do_not_count():
    image = PLAIN.copy()
    image[8:22, 8:22] = 255
    result = compare_outside(image, PLAIN, [HEAD])
    assert (result["outside_change"], result["outside_share"]) == (0, 0)
    assert result["outside_ssim"] > 0.95  # its windows reach a little into the head
    assert compare_outside(image, PLAIN, [])["outside_change"] > 10


def test_changes_outside_are_counted_by_pixel():
    image = PLAIN.copy()
    image[30:32] += 20
    image[36:38, :, 0] += 30  # 10 in the mean of the colours
    result = compare_outside(image, PLAIN, [HEAD])
    n = 1600 - 18 * 18
    assert result["outside_change"] == pytest.approx((80 * 20 + 80 * 10) / n, abs=1e-3)
    assert result["outside_share"] == pytest.approx(80 / n, abs=1e-5)
    assert result["outside_ssim"] < 1


def test_of_a_picture_full_of_head_everything_counts():
    other = np.full_like(PLAIN, 255)
    result = compare_outside(other, PLAIN, [(0, 0, 1, 1)])
    assert result == compare_outside(other, PLAIN, [])
    assert result["outside_change"] > 50
