"""Head crops: upright, framing the head, on the demo's drawn persons whose heads are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from demo.dollhouse.draw import draw
from demo.dollhouse.world import random_picture
from lib_beyondfacial.faces.analysis import Face
from lib_beyondfacial.faces.crops import head_crop, head_square


def as_face(landmarks) -> Face:
    return Face(np.array([0, 0, 9, 9], np.float32), np.asarray(landmarks, np.float32), 1.0, np.ones(512, np.float32))


def overlap(a, b) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


@pytest.mark.parametrize("shot", ["close-up", "half", "full"])
def test_the_square_frames_the_drawn_head(shot):
    rng = np.random.default_rng(1)
    for _ in range(20):
        _, truth = draw(random_picture(rng, shot=shot))
        centre, down, side = head_square(truth.landmarks)
        square = np.concatenate([centre - side / 2, centre + side / 2])
        assert overlap(square, np.array(truth.head_box)) > 0.95
        np.testing.assert_allclose(down, [0, 1], atol=1e-6)


def test_a_turned_and_scaled_photo_gives_the_same_crop():
    image, truth = draw(random_picture(np.random.default_rng(2), shot="half"), 256, 256)
    upright = head_crop(image, as_face(truth.landmarks), 128).astype(float)
    for angle, scale in ((30, 1.0), (-90, 1.0), (180, 1.5), (10, 3.0)):
        size = int(512 * scale)
        turn = cv2.getRotationMatrix2D((127.5, 127.5), angle, scale)
        turn[:, 2] += size / 2 - 127.5
        turned = cv2.warpAffine(image, turn, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        landmarks = truth.landmarks @ turn[:, :2].T + turn[:, 2]
        crop = head_crop(turned, as_face(landmarks), 128).astype(float)
        assert np.abs(crop - upright)[8:-8, 8:-8].mean() < 9, (angle, scale)


def test_pixels_lie_where_they_should():
    """A dot at a landmark comes out at the landmark's place, when enlarged and when shrunk."""
    for zoom in (1, 8):
        landmarks = zoom * np.array([[40, 50], [60, 50], [50, 60], [43, 70], [57, 70]], np.float32)
        image = np.zeros((150 * zoom, 150 * zoom, 3), np.uint8)
        x, y = landmarks[0].astype(int)
        image[y - zoom : y + zoom + 1, x - zoom : x + zoom + 1] = 255
        crop = head_crop(image, as_face(landmarks), 200).astype(float).mean(2)
        centre, _, side = head_square(landmarks)
        expected = (landmarks[0] - centre) * 200 / side + 99.5
        rows, columns = np.indices(crop.shape)
        found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
        np.testing.assert_allclose(found, expected, atol=1)


def test_outside_the_photo_its_border_goes_on():
    image = np.full((60, 60, 3), 90, np.uint8)
    image[0] = 200
    crop = head_crop(image, as_face([[20, 3], [40, 3], [30, 13], [23, 23], [37, 23]]), 64)
    assert (crop[0] == 200).all()
    assert (crop[-1] == 90).all()


def test_landmarks_in_one_point_do_not_break_it():
    assert head_crop(np.zeros((20, 20, 3), np.uint8), as_face(np.full((5, 2), 7.0)), 32).shape == (32, 32, 3)
