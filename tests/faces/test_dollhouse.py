"""Drawn persons through the shipped pack: eight photos, two of other persons, one without a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demo.dollhouse.draw import draw
from demo.dollhouse.world import random_identity, random_picture
from lib_beyondfacial.faces import Photo, aggregate_photos, check_photos, compare, get_analyser
from lib_beyondfacial.faces.analysis import unload_analysers

PACK = Path(__file__).parents[2] / "demo/dollhouse/weights/models/insightface/models/dollhouse"
WRONG, EMPTY = (2, 5), 6
pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def pack():
    yield get_analyser(PACK)
    unload_analysers()


def photo_of(person, rng, name: str) -> Photo:
    return Photo(name, draw(random_picture(rng, person, shot="close-up", style="flat"), 256, 256)[0])


def empty_scene(rng) -> np.ndarray:
    """A scene's upper corner, where nobody stands."""
    picture, truth = draw(random_picture(rng, shot="full", style="flat"), 512, 256)
    left = int(truth.head_box[0]) > 256
    return np.ascontiguousarray(picture[:128, :128] if left else picture[:128, -128:])


@pytest.mark.parametrize("seed", range(6))
def test_two_wrong_and_one_empty_of_eight(seed, pack):
    rng = np.random.default_rng([20, seed])
    person, *strangers = (random_identity(rng) for _ in range(3))
    album = []
    for i in range(8):
        name = f"IMG_{i + 1}.jpg"
        whom = strangers[WRONG.index(i)] if i in WRONG else person
        album.append(Photo(name, empty_scene(rng)) if i == EMPTY else photo_of(whom, rng, name))
    clean = aggregate_photos([photo for i, photo in enumerate(album) if i not in (*WRONG, EMPTY)], pack)
    identity = aggregate_photos(album, pack)
    assert clean.warnings == ()
    assert clean.embedding @ identity.embedding > 0.98
    assert identity.names == clean.names
    assert identity.warnings == (
        '"IMG_3.jpg" shows somebody else and is not used.',
        '"IMG_6.jpg" shows somebody else and is not used.',
        'No face was found in "IMG_7.jpg"; it is not used.',
    )
    checks = check_photos(album, pack)
    assert [check.name for check in checks if not check.used] == ["IMG_3.jpg", "IMG_6.jpg", "IMG_7.jpg"]
    again = photo_of(person, rng, "another")
    assert compare(again.image, identity, pack).similarity > 0.9
    assert compare(photo_of(strangers[0], rng, "x").image, identity, pack).similarity < 0.6
