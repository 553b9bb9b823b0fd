"""The drawn data: who draws does not change the pictures, and heads are as large as the latents need."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from demo.dollhouse.draw import draw
from demo.dollhouse.train import recogniser
from demo.dollhouse.train.all import FEW
from demo.dollhouse.train.common import HEAD_WEIGHT, Pictures, face_box
from demo.dollhouse.train.diffusion import Shape
from demo.dollhouse.train.drawing import (
    drawn_crops,
    drawn_pictures,
    drawn_portraits,
    random_pictures,
    wide_pictures,
)
from demo.dollhouse.train.run import batches_from
from demo.dollhouse.world import SHOTS, head_radius, random_identity, random_picture

from .conftest import make_place


def test_all_cores_draw_what_one_draws(tmp_path):
    alone, together = make_place(tmp_path / "alone"), make_place(tmp_path / "together", workers=3)
    rng = np.random.default_rng(4)
    people = [random_identity(rng) for _ in range(66)]
    photos = [random_picture(rng, person) for person in people]
    for make in (
        lambda place: drawn_pictures(place, 80, seed=3),
        lambda place: drawn_portraits(place, "portraits", people, ("half", "full"), 5),
        lambda place: (drawn_crops(place, "crops", photos), []),
    ):
        (a, truths_a), (b, truths_b) = make(alone), make(together)
        assert np.array_equal(a, b)
        assert a.any(axis=tuple(range(1, a.ndim))).all()
        assert len(truths_a) == len(truths_b)
        for x, y in zip(truths_a, truths_b, strict=True):
            places = (x, y) if isinstance(x, np.ndarray) else (x[1].landmarks, y[1].landmarks)
            assert np.array_equal(*places)


def test_wide_pictures_hold_two_people_at_every_shot_and_square_ones_no_close_ups_of_two(tmp_path):
    place = replace(make_place(tmp_path), amounts=replace(FEW, wide=80))
    for width, (images, truths) in zip((96, 128), wide_pictures(place), strict=True):
        assert images.shape == (80, 64, width, 3)
        assert {p.shot for p, _ in truths if p.second} == set(SHOTS)
        assert all(len(truth.heads) == len(p.people) for p, truth in truths)
    pictures = random_pictures(300, seed=1)
    assert {p.shot for p in pictures if p.second} == set(SHOTS[1:])


def test_a_batch_of_wide_pictures_has_as_many_latents_as_one_of_square_ones():
    for width, rows in ((24, 16), (36, 11), (48, 8)):
        shape = Shape(torch.zeros(5, 4, 24, width), torch.zeros(5, 2, 77), torch.ones(5, 24, width))
        assert shape.batch(16) == rows


def test_drawn_once_then_read(tmp_path):
    place = make_place(tmp_path)
    first, truths = drawn_pictures(place, 5, seed=8)
    path = next(place.cache.glob("pictures_*.npy"))
    stamp = path.stat().st_mtime_ns
    again, _ = drawn_pictures(place, 5, seed=8)
    assert path.stat().st_mtime_ns == stamp
    assert np.array_equal(first, again)
    assert np.array_equal(first[3], draw(truths[3][0], 64, 64)[0])


def test_batches_do_not_depend_on_who_makes_them(tmp_path):
    batches = recogniser.Batches(make_place(tmp_path), "feed", 8)
    for a, b in itertools.islice(zip(batches_from(batches, 7, 5, 0), batches_from(batches, 7, 5, 2), strict=True), 3):
        assert np.array_equal(a[0], b[0])
        assert all(np.array_equal(a[1][k], b[1][k]) for k in a[1])


@pytest.mark.parametrize("size", [192, 256])
def test_a_full_shots_head_spans_five_latent_pixels(size):
    assert 2 * head_radius("full", size) * size / 8 >= 5
    picture = random_picture(np.random.default_rng(1), shot="full")
    image, truth = draw(picture, size, size)
    assert image.shape == (size, size, 3)
    assert truth.radius == pytest.approx(head_radius("full", size) * size, rel=0.06)


def test_the_shipped_size_has_the_shipped_heads():
    assert head_radius("full", 128) == 0.11


def test_crops_weights_and_faces_are_where_the_heads_are(tmp_path):
    images, truths = drawn_pictures(make_place(tmp_path), 12, seed=2)
    pictures = Pictures(images, truths, torch.device("cpu"))
    places = torch.from_numpy(pictures.places(np.random.default_rng(0), 12, 32, 8))
    assert (places[:, 1:] % 8 == 0).all()
    crops, weight = pictures.cut(places, 32), pictures.weight(places, 32)
    for (i, x, y), crop, w in zip(places.tolist(), crops, weight, strict=True):
        assert np.array_equal(((crop.permute(1, 2, 0) + 1) * 127.5).round().byte(), images[i, y : y + 32, x : x + 32])
        boxes = [np.array(head.head_box) - (x, y, x, y) for head in truths[i][1].heads]
        faces = [np.array(face_box(head.landmarks)) - (x, y, x, y) for head in truths[i][1].heads]
        heads, middles = (
            np.array(
                [
                    any((box[0] <= a < box[2]) and (box[1] <= b < box[3]) for box in some)
                    for b in range(32)
                    for a in range(32)
                ]
            )
            for some in (boxes, faces)
        )
        most = HEAD_WEIGHT[truths[i][0].shot]
        assert np.allclose(w.flatten(), 1 + most * heads + most * middles)
    whole = torch.stack([torch.arange(12), *torch.zeros(2, 12, dtype=torch.long)], 1)
    faces, is_inside = pictures.faces(pictures.cut(whole, 64), whole)
    assert is_inside.any()
    from lib_beyondfacial.faces.alignment import align_face

    for i in torch.nonzero(is_inside).flatten().tolist():
        heads = [(np.abs(np.reshape(h.head_box, (2, 2)).mean(0) - 32).sum(), h.landmarks) for h in truths[i][1].heads]
        wanted = align_face(images[i], min(heads, key=lambda one: one[0])[1])[28:84, 28:84]
        square = ((faces[i].permute(1, 2, 0) + 1) * 127.5).numpy()[28:84, 28:84]
        assert np.abs(square - wanted).mean() < 2.5
