"""A group photo beside photos of one person: the face that the others agree on is meant, be it the smallest."""

from __future__ import annotations

import numpy as np

from lib_beyondfacial.faces.aggregate import aggregate_photos
from lib_beyondfacial.faces.checks import check_photos
from lib_beyondfacial.faces.choice import FaceChoice
from tests.faces.scripted import Scripted, direction, face, noisy, photos

PERSON, STRANGER, THIRD = direction(1), direction(0, 1), direction(0, 0, 1)


def alone(seed=0):
    return [face(noisy(np.random.default_rng(seed), PERSON, 0.9))]


GROUP = [face(STRANGER, side=100), face(noisy(np.random.default_rng(9), PERSON, 0.9), side=60, at=110)]


def test_the_fitting_face_of_a_group_photo_is_used_by_itself():
    found = [alone(1), GROUP, alone(2)]
    checks = check_photos(photos(3, 200), Scripted(*found))
    assert [check.used for check in checks] == [True, True, True]
    assert checks[1].note == '"photo 2" shows 2 faces; the one most like the other photos is used.'
    assert [each.chosen for each in checks[1].faces] == [False, True]
    assert checks[1].sentence == ""
    assert checks[1].agreement > 0.5
    identity = aggregate_photos(photos(3, 200), Scripted(*found))
    assert len(identity.names) == 3
    assert identity.embedding @ PERSON > 0.9


def test_a_group_photo_of_strangers_stays_out():
    found = [alone(1), [face(STRANGER, side=100), face(THIRD, side=60, at=110)], alone(2)]
    checks = check_photos(photos(3, 200), Scripted(*found))
    assert [check.used for check in checks] == [True, False, True]
    assert checks[1].sentence == '"photo 2" shows somebody else and is not used.'


def test_two_photos_are_no_majority():
    checks = check_photos(photos(2, 200), Scripted(alone(1), GROUP))
    assert [each.chosen for each in checks[1].faces] == [True, False]


def test_a_choice_of_the_user_is_not_changed():
    found = [alone(1), GROUP, alone(2)]
    checks = check_photos(photos(3, 200), Scripted(*found), FaceChoice("from the left", 1))
    assert [check.used for check in checks] == [True, False, True]
