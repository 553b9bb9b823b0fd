"""The cases beside the table: more photos, somebody else's among them, wide pictures, other media."""

from dataclasses import replace

import numpy as np
import pytest

from bench.judges import square_round
from bench.methods import CASES, METHODS
from bench.painter import Sampling
from bench.records import key_of
from demo.dollhouse.world import SIZE

pytestmark = pytest.mark.weights


def test_a_strangers_photo_is_dropped_by_name(painter, pair):
    painted = painter.paint([pair], METHODS["photos_3_stranger"])
    assert painted.warnings == [1]
    assert painter.paint([pair], METHODS["photos_3"]).warnings == [0]


def test_the_first_photo_is_the_pairs_and_all_differ(pair):
    photos = pair.references(3, 1)
    assert photos[0] == pair.reference
    assert len(set(photos)) == 4
    assert photos == pair.references(3, 1)


def test_wide_pictures_are_wide(painter, pair):
    image = painter.paint([pair], METHODS["wide"]).images[0]
    assert image.shape == (SIZE, 3 * SIZE // 2, 3)


def test_the_medium_takes_the_place_of_photo_of(pair):
    assert pair.prompt.startswith("photo of a")
    assert pair.prompt_of("ink drawing of") == pair.prompt.replace("photo of", "ink drawing of")
    assert pair.prompt_of() == pair.prompt


def test_only_the_identity_line_follows_the_photos_gender(painter, pair):
    """Followed, the identity line reads the pair's own prompt again; the semantic line does not."""
    other = {"man": "woman", "woman": "man"}[pair.word]
    assert pair.prompt_of(other_gender=True) == pair.prompt.replace(f" {pair.word} ", f" {other} ")
    methods = [METHODS[name] for name in ("other_gender", "other_gender_followed")]
    everywhere = [replace(m, settings={**(m.settings or {}), "mask_mode": "whole"}) for m in methods]
    left, followed = (painter.paint([pair], method) for method in everywhere)
    assert not np.array_equal(left.images[0], followed.images[0])
    assert (followed.rows, followed.warnings) == (left.rows, [0])


@pytest.mark.parametrize(
    ("box", "left"), [(None, 50), ([0.0, 0.1, 0.1, 0.3], 0), ([0.9, 0, 1, 1], 100), ([0.45, 0, 0.65, 0.3], 60)]
)
def test_a_wide_picture_is_judged_round_its_head(box, left):
    image = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3))
    square = square_round(image, box)
    assert square.shape == (100, 100, 3)
    assert square[0, 0, 0] == left


def test_every_case_has_records_of_its_own():
    keys = {key_of(method, Sampling(), "cpu") for method in (*CASES, METHODS["plain"], METHODS["beyondfacial"])}
    assert len(keys) == len(CASES) + 2
