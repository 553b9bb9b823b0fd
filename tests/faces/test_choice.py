"""Which face of a photo is meant: every choice, what it says, and what it says when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces.aggregate import aggregate_photos, hash_photos
from lib_beyondfacial.faces.checks import check_photos
from lib_beyondfacial.faces.choice import FaceChoice
from tests.faces.scripted import Scripted, direction, face, noisy, photos

HER, HIM, CHILD = direction(1), direction(0, 1), direction(0, 0, 1)


def chosen(identity) -> int:
    """Which of the axes the identity lies on."""
    return int(np.argmax(identity.embedding[:3]))


def group() -> list:
    """The largest first, as analysers hand them out: him, the child, her; from the left: the child, her, him."""
    return [
        face(HIM, side=110, at=200, gender="male"),
        face(CHILD, side=80, at=0, gender="female"),
        face(HER, side=60, at=100, gender="female"),
    ]


@pytest.mark.parametrize(
    ("choice", "person", "words"),
    [
        (FaceChoice(), 1, "the largest is used"),
        (FaceChoice("from the left"), 2, "face number 1 from the left is used"),
        (FaceChoice("from the left", 2), 0, "face number 2 from the left is used"),
        (FaceChoice("from the left", 3), 1, "face number 3 from the left is used"),
        (FaceChoice("female"), 2, "the largest female one is used"),
        (FaceChoice("male"), 1, "the male one is used"),
        (FaceChoice("most similar"), 1, "the largest is used, as there is no other photo to compare with"),
    ],
)
def test_each_choice_takes_its_face_and_says_so(choice, person, words):
    identity = aggregate_photos(photos(1), Scripted(group()), choice)
    assert chosen(identity) == person
    assert identity.warnings == (f'"photo 1" shows 3 faces; {words}.',)


def test_one_face_needs_no_words():
    for kind in ("largest", "from the left", "female", "most similar"):
        identity = aggregate_photos(photos(1), Scripted([face(HER, gender="female")]), FaceChoice(kind))
        assert identity.warnings == ()


def test_most_similar_finds_who_is_in_the_other_photos():
    rng = np.random.default_rng(1)
    alone = [[face(noisy(rng, HER, 0.8))], [face(noisy(rng, HER, 0.8))]]
    crowd = [face(noisy(rng, HIM, 0.9), side=110), face(noisy(rng, HER, 0.8), side=50)]
    identity = aggregate_photos(photos(3), Scripted(*alone, crowd), FaceChoice("most similar"))
    assert len(identity.names) == 3
    assert '"photo 3" shows 2 faces; the one most like the other photos is used.' in identity.warnings
    assert identity.embedding @ HER > 0.9
    largest = aggregate_photos(photos(3), Scripted(*alone, crowd))  # by itself, as two other photos agree
    assert largest.names == identity.names


def test_most_similar_where_she_is_never_the_largest():
    """In group photos the largest face is anybody's: each photo's faces are all compared."""
    rng = np.random.default_rng(2)
    crowds = []
    for i in range(4):
        stranger = face(noisy(rng, direction(*[0] * (5 + i), 1), 0.9), side=110)
        crowds.append([stranger, face(noisy(rng, HER, 0.85), side=70)])
    identity = aggregate_photos(photos(4), Scripted(*crowds), FaceChoice("most similar"))
    assert identity.embedding @ HER > 0.95
    assert len(identity.names) == 4


def test_photos_without_such_a_face_are_dropped_by_name():
    found = [[face(HER, gender="female")], [face(HIM, gender="male")], []]
    identity = aggregate_photos(photos(3), Scripted(*found), FaceChoice("female"))
    assert identity.names == ("photo 1",)
    assert '"photo 2" shows no female face; it is not used.' in identity.warnings
    assert 'No face was found in "photo 3"; it is not used.' in identity.warnings
    found = [[face(HER)], group()]
    identity = aggregate_photos(photos(2), Scripted(*found), FaceChoice("from the left", 2))
    assert identity.names == ("photo 2",)
    assert '"photo 1" shows one face, so there is no face number 2 from the left; it is not used.' in identity.warnings
    identity = aggregate_photos(photos(2), Scripted(group()[:2], group()), FaceChoice("from the left", 3))
    assert identity.names == ("photo 2",)
    assert '"photo 1" shows 2 faces, so there is no' in identity.warnings[1]


def test_none_left_is_refused_by_name():
    men = Scripted([face(HIM, gender="male")], [face(HIM, gender="male")])
    with pytest.raises(BeyondFacialError, match='No female face was found in "photo 1" and "photo 2"; set "face_'):
        aggregate_photos(photos(2), men, FaceChoice("female"))
    with pytest.raises(BeyondFacialError, match='No face number 4 from the left was found in "photo 1"'):
        aggregate_photos(photos(1), Scripted(group()), FaceChoice("from the left", 4))
    with pytest.raises(BeyondFacialError, match='No face was found in "photo 1"; give a photo'):
        aggregate_photos(photos(1), Scripted([]), FaceChoice("female"))


def test_a_pack_without_a_gender_model_says_so():
    class Genderless(Scripted):
        tells_gender = False

    for kind in ("female", "male"):
        with pytest.raises(BeyondFacialError, match=f'"scripted" has no gender model.*{kind} face'):
            check_photos(photos(1), Genderless([face(HER)]), FaceChoice(kind))
    assert check_photos(photos(1), Genderless([face(HER)]))[0].used


def test_what_is_no_choice_is_refused():
    with pytest.raises(BeyondFacialError, match='"face_choice" is "tallest"; it must be one of "largest", '):
        FaceChoice("tallest")
    with pytest.raises(BeyondFacialError, match='"face_index" is 0'):
        FaceChoice("from the left", 0)


def test_the_hash_tells_choices_apart_but_keeps_the_usual_one():
    made = photos(2)
    usual = hash_photos(made)
    assert hash_photos(made, FaceChoice("largest", 3)) == usual
    others = [FaceChoice("from the left"), FaceChoice("from the left", 2), FaceChoice("female"), FaceChoice("male", 1)]
    assert len({usual, *(hash_photos(made, choice) for choice in others)}) == 5
    assert hash_photos(made, FaceChoice("male", 1)) == hash_photos(made, FaceChoice("male", 2))
