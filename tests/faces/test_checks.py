"""The face check: what it says of each photo, that a run does just that, and the picture it draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces.aggregate import aggregate_photos
from lib_beyondfacial.faces.checks import (
    CHOSEN_COLOUR,
    DROPPED_COLOUR,
    OTHER_COLOUR,
    check_photos,
    draw_check,
    summarise,
)
from lib_beyondfacial.faces.choice import KINDS, FaceChoice
from lib_beyondfacial.faces.photos import Photo
from tests.faces.scripted import Scripted, direction, face, noisy, photos


def test_what_is_said_of_one_photo():
    found = [face(direction(1), side=80, at=20, score=0.75, gender="female"), face(direction(0, 1), side=30)]
    (check,) = check_photos([Photo("me", np.zeros((90, 200, 3), np.uint8))], Scripted(found))
    assert (check.name, check.width, check.height) == ("me", 200, 90)
    assert check.detector_size == 640
    assert not check.padded
    assert check.agreement is None
    assert check.used
    assert check.sentence == ""
    assert check.note == '"me" shows 2 faces; the largest is used.'
    first, second = check.faces
    assert first.box == (20, 0, 100, 80)
    assert (first.score, first.gender, first.chosen) == (0.75, "female", True)
    assert (second.gender, second.chosen) == (None, False)


def test_agreement_and_who_is_dropped():
    rng = np.random.default_rng(4)
    person, stranger = direction(1), direction(0, 1)
    found = [[face(noisy(rng, person, 0.8))] for _ in range(3)] + [[face(stranger)], []]
    checks = check_photos(photos(5), Scripted(*found))
    assert [check.used for check in checks] == [True, True, True, False, False]
    assert all(0.5 < check.agreement < 0.75 for check in checks[:3])
    assert checks[3].agreement < 0.15
    assert checks[4].agreement is None
    assert checks[3].sentence == '"photo 4" shows somebody else and is not used.'
    assert checks[3].faces[0].chosen  # the face is shown, and that it is not used
    assert checks[4].sentence == 'No face was found in "photo 5"; it is not used.'
    assert (checks[4].detector_size, checks[4].faces) == (0, ())
    assert summarise(checks) == ("", (checks[3].sentence, checks[4].sentence), None)


def test_nothing_usable_is_no_error_of_the_check():
    checks = check_photos(photos(2), Scripted([], []))
    problem, warnings, gender = summarise(checks)
    assert problem.startswith('No face was found in "photo 1" and "photo 2"; give')
    assert len(warnings) == 2
    assert gender is None
    different = check_photos(photos(3), Scripted(*[[face(direction(*[0] * i, 1))] for i in range(3)]))
    assert "show different persons" in summarise(different)[0]
    assert not any(check.used for check in different)
    with pytest.raises(BeyondFacialError, match="0 photos were given"):
        check_photos([], Scripted())


@pytest.mark.parametrize(
    ("genders", "expected"),
    [
        ([None, None], None),
        (["female", None], "female"),
        (["male", "female", "male"], "male"),
        (["female", "male"], "female"),  # a tie: the better photo's
        (["male", "female", None], "female"),
    ],
)
def test_the_gender_is_that_of_most_photos(genders, expected):
    person = direction(1)
    score = {"female": 0.9, "male": 0.6, None: 0.5}
    found = [[face(person, gender=gender, score=score[gender])] for gender in genders]
    made = photos(len(genders))
    assert summarise(check_photos(made, Scripted(*found)))[2] == expected
    assert aggregate_photos(made, Scripted(*found)).gender == expected


def test_dropped_photos_have_no_say_in_the_gender():
    person, stranger = direction(1), direction(0, 1)
    found = [
        [face(person, gender="female")],
        [face(person)],
        [face(person)],
        [face(stranger, gender="male", score=1.0)],
    ]
    assert aggregate_photos(photos(4), Scripted(*found)).gender == "female"


FACE = st.builds(
    lambda person, seed, side, at, gender: face(
        noisy(np.random.default_rng(seed), direction(*[0] * person, 1), 0.8), side=side, at=at, gender=gender
    ),
    st.integers(0, 3),
    st.integers(0, 10**6),
    st.floats(20, 110),
    st.floats(-20, 60),
    st.sampled_from(["female", "male", None]),
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.lists(FACE, max_size=3), min_size=1, max_size=5),
    st.sampled_from(KINDS),
    st.integers(1, 3),
)
def test_a_run_does_what_the_check_says(found, kind, index):
    found = [sorted(faces, key=lambda face: -face.area) for faces in found]
    made, analyser, choice = photos(len(found)), Scripted(*found), FaceChoice(kind, index)
    checks = check_photos(made, analyser, choice)
    problem, warnings, _ = summarise(checks, choice)
    for check in checks:
        assert sum(face_entry.chosen for face_entry in check.faces) <= 1
        assert check.used == (check.sentence == "")
        assert check.used <= any(face_entry.chosen for face_entry in check.faces)
        assert check.name in check.sentence + check.note or check.used
    assert bool(problem) == (not any(check.used for check in checks))
    if problem:
        with pytest.raises(BeyondFacialError) as caught:
            aggregate_photos(made, analyser, choice)
        assert str(caught.value) == problem
        return
    identity = aggregate_photos(made, analyser, choice)
    assert identity.names == tuple(check.name for check in checks if check.used)
    assert identity.warnings == warnings
    used = np.stack([check.face.normed_embedding for check in checks if check.used])
    np.testing.assert_allclose(np.sort(identity.photos @ used.T, axis=1)[:, -1], 1, atol=1e-5)


def test_the_boxes_are_drawn_and_the_chosen_one_stands_out():
    photo = Photo("me", np.full((400, 800, 3), 2, np.uint8))
    found = [face(direction(1), side=200, at=40), face(direction(0, 1), side=100, at=600)]
    (check,) = check_photos([photo], Scripted([], [], found))
    drawn = draw_check(photo, check, side=400)
    assert drawn.shape == (200, 400, 3)
    assert drawn.dtype == np.uint8
    assert tuple(drawn[50, 20]) == CHOSEN_COLOUR  # left edge of the first, at half size
    assert tuple(drawn[25, 300]) == OTHER_COLOUR
    assert tuple(drawn[150, 200]) == (2, 2, 2)
    count = {colour: int((drawn == colour).all(axis=2).sum()) for colour in (CHOSEN_COLOUR, OTHER_COLOUR)}
    assert count[CHOSEN_COLOUR] > 2 * count[OTHER_COLOUR]  # twice the length, and thicker
    assert (photo.image == 2).all()


def test_dropped_photo_has_another_box_colour():
    rng = np.random.default_rng(5)
    found = [[face(noisy(rng, direction(1), 0.9), side=60, at=10)] for _ in range(2)] + [
        [face(direction(0, 1), side=60)]
    ]
    made = photos(3, size=90)
    checks = check_photos(made, Scripted(*found))
    assert tuple(draw_check(made[0], checks[0])[30, 10]) == CHOSEN_COLOUR
    assert tuple(draw_check(made[2], checks[2])[30, 0]) == DROPPED_COLOUR
    assert draw_check(made[0], checks[0], side=320).shape == (90, 90, 3)
    assert draw_check(made[0], checks[0], side=30).shape == (30, 30, 3)
    nothing = check_photos(made[:1], Scripted([]))[0]
    np.testing.assert_array_equal(draw_check(made[0], nothing), made[0].image)


def test_sizes_and_borders_of_the_detector_are_told(any_size_analyser, draw_faces):
    plain, filling = draw_faces(1, size=256), draw_faces(1, size=128, boxes=((0, 0, 128),))
    checks = check_photos([Photo("a", plain), Photo("b", filling)], any_size_analyser)
    assert (checks[0].detector_size, checks[0].padded) == (512, False)
    assert checks[1].padded
    assert all(check.faces for check in checks)
