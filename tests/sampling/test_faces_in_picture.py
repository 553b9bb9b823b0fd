"""Which face counts, and when a redrawn head is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib_beyondfacial.faces.face import Face
from lib_beyondfacial.method.assignment import HeadAssignment
from lib_beyondfacial.sampling.faces_in_picture import is_better, overlap, to_head, to_image

PERSON = np.eye(512, dtype=np.float32)[0]


def face_at(x0: float, y0: float, side: float, cosine: float = 0.5) -> Face:
    embedding = np.zeros(512, np.float32)
    embedding[:2] = cosine, (1 - cosine**2) ** 0.5
    return Face(
        np.array([x0, y0, x0 + side, y0 + side], np.float32), np.zeros((5, 2), np.float32), 0.9, 20 * embedding
    )


def test_the_face_under_the_strongest_attention_counts():
    left, right = face_at(0, 0, 20), face_at(76, 76, 20)
    attention = torch.zeros(12, 12)
    attention[10, 10] = 1
    for a, stronger in ((attention, right), (attention.flip(0, 1), left)):
        heads = [to_head(face, a, (96, 96)) for face in (left, right)]
        (chosen,) = HeadAssignment({"one": 0}).choose_faces(0, heads, [None], [None, None]).values()
        assert (left, right)[chosen] is stronger
    assert to_head(right, attention, (96, 96)).box == (76 / 96, 76 / 96, 1, 1)


def test_attention_is_read_under_the_face_in_a_wide_picture():
    above, below = face_at(104, 8, 8), face_at(104, 48, 8)
    attention = torch.zeros(8, 16)
    attention[6, 13] = 1
    assert [to_head(face, attention, (64, 128)).strength for face in (above, below)] == [0, 1]


@pytest.mark.parametrize(("after", "kept"), [(0.6, True), (0.5, True), (0.49, False), (-0.2, False)])
def test_a_less_similar_head_is_not_kept(after, kept):
    assert is_better(face_at(40, 40, 20, 0.5), [face_at(42, 39, 20, after)], PERSON) is kept


def test_a_vanished_head_is_not_kept():
    before = face_at(40, 40, 20, 0.1)
    assert not is_better(before, [], PERSON)
    assert not is_better(before, [face_at(0, 0, 20, 0.9)], PERSON), "another face, elsewhere"
    assert not is_better(before, [face_at(0, 0, 96, 0.9)], PERSON), "the picture as such"
    assert not is_better(before, [face_at(44, 42, 14, 0.9)], PERSON), "a whole person in the crop"


def test_overlap():
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1


def test_a_decoded_picture_as_an_image():
    picture = torch.tensor([-1.2, -1.0, 0.0, 1.0, 3.0]).expand(3, 1, 5)
    assert to_image(picture)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
