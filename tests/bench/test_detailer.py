"""A detailer's pass changes the heads, each to its own person, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from bench.detailer import Recipe, detail, img2img_recipe
from bench.methods import METHODS
from bench.painter import Painted
from bench.pairs import make_pairs
from bench.preservation import outside_heads
from demo.dollhouse.draw import draw
from demo.dollhouse.world import SIZE, Person, Picture

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def two():
    """A drawn picture of two, and a pair for each of two other persons."""
    pairs = make_pairs(9)
    picture = Picture(pairs[0].person, "beach", "standing", "full", details=4, second=Person(pairs[1].person))
    return draw(picture, 2 * SIZE, SIZE), pairs[2:4]


def plan_of(painter, pairs):
    """One line a pair, all for the one picture."""
    plans = [painter.make_plan([pair], METHODS["detailer"], (), Painted()) for pair in pairs]
    return replace(plans[0], lines=tuple(line for plan in plans for line in plan.lines))


def change(image, picture, box):
    x0, y0, x1, y1 = (round(v) for v in box)
    return np.abs(image.astype(int) - picture.astype(int))[y0:y1, x0:x1].mean()


def test_every_face_is_redrawn_and_the_rest_stays(painter, two):
    (picture, truth), pairs = two
    prompt = "photo of two men standing on the beach, full body shot"
    (one,) = detail(plan_of(painter, pairs[:1]), [picture], [prompt], [7], Recipe())
    (both,) = detail(plan_of(painter, pairs), [picture], [prompt], [7], Recipe())
    boxes = [np.array(head.head_box) / [2 * SIZE, SIZE, 2 * SIZE, SIZE] for head in truth.heads]
    outside = outside_heads(boxes, SIZE, 2 * SIZE)
    for image in (one, both):
        assert np.abs(image.astype(int) - picture.astype(int))[outside].mean() < 0.1
        assert all(change(image, picture, head.head_box) > 4 for head in truth.heads)
    left, right = (change(one, both, head.head_box) for head in truth.heads)
    assert left < 1 < right  # the second head is the second person's


def test_a_picture_without_a_face_stays(painter, two):
    empty = np.full((SIZE, SIZE, 3), 90, np.uint8)
    (image,) = detail(plan_of(painter, two[1][:1]), [empty], ["a field"], [7], Recipe())
    assert np.abs(image.astype(int) - 90).max() <= 1


def test_img2img_takes_the_last_steps(painter):
    recipe = img2img_recipe(0.4, 10, 5.0)
    assert len(recipe.sigmas) == 6  # five calls, as web UIs have it
    assert recipe.sigmas[-1] == 0
    assert recipe.sigmas[0] < img2img_recipe(0.6, 10, 5.0).sigmas[0] < Recipe().sigmas[0] * 2
