"""Several photos to one identity (docs/method.md eq. 10), with constructed embeddings and through a real pack."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import aggregate, quality, reports
from lib_beyondfacial.faces.aggregate import aggregate_photos
from lib_beyondfacial.faces.analysis import Face
from lib_beyondfacial.faces.photos import Photo
from tests.faces.scripted import TEMPLATE, Scripted, direction, face, noisy, photos


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_equal_faces_give_that_face(count):
    person = direction(3, 4)
    identity = aggregate_photos(photos(count), Scripted(*[[face(person, norm=15.0)]] * count))
    np.testing.assert_allclose(identity.embedding, person, atol=1e-6)
    assert identity.embedding.dtype == np.float32
    assert identity.norm == pytest.approx(15, rel=1e-5)
    assert identity.names == tuple(f"photo {i + 1}" for i in range(count))
    assert identity.warnings == ()
    assert identity.crop.shape == (256, 256, 3)
    assert identity.crop.dtype == np.uint8


def test_the_weights_are_score_times_size():
    """Sharpness is nearly equal here; the faces differ by score and by size in ratios computed by hand."""
    first, second = direction(1), direction(0, 1)
    made = photos(2)
    found = [[face(first, norm=10, score=0.9, side=112)], [face(second, norm=30, score=0.6, side=56)]]
    ratio = quality.compute_quality(made[1], found[1][0]) / quality.compute_quality(made[0], found[0][0])
    identity = aggregate_photos(made, Scripted(*found))
    assert identity.embedding[1] / identity.embedding[0] == pytest.approx(ratio, rel=1e-5)
    assert ratio == pytest.approx(0.6 / 0.9 * 56 / 112, rel=0.1)
    assert identity.norm == pytest.approx((10 + 30 * ratio) / (1 + ratio), rel=1e-5)


def test_faces_larger_than_the_recogniser_sees_weigh_no_more():
    made = photos(1)[0]
    big = Photo("big", np.kron(made.image, np.ones((3, 3, 1), np.uint8)))
    similar, different = face(direction(1), side=224), face(direction(1), side=112)
    sharpness = quality.compute_quality(big, similar) / 0.9
    assert 0.5 < sharpness <= 1
    assert quality.compute_quality(big, face(direction(1), side=28)) < 0.26
    assert quality.compute_quality(made, different) <= 0.9


def test_a_blurred_photo_weighs_less():
    cv2 = pytest.importorskip("cv2")
    sharp = photos(1)[0]
    blurred = Photo("blurred", cv2.GaussianBlur(sharp.image, (0, 0), 4))
    found = face(direction(1))
    assert quality.compute_quality(blurred, found) < 0.5 * quality.compute_quality(sharp, found)


@pytest.mark.parametrize(("count", "wrong"), [(3, [1]), (4, [3]), (8, [0, 5])])
def test_wrong_persons_are_dropped_by_name(count, wrong):
    rng = np.random.default_rng(count)
    person, stranger = direction(1), noisy(rng, direction(1), 0.02)
    shown = [noisy(rng, stranger, 0.75) if i in wrong else noisy(rng, person, 0.75) for i in range(count)]
    identity = aggregate_photos(photos(count), Scripted(*[[face(each)] for each in shown]))
    assert identity.names == tuple(f"photo {i + 1}" for i in range(count) if i not in wrong)
    assert len(identity.warnings) == len(wrong)
    for i, warning in zip(wrong, identity.warnings, strict=True):
        assert f'"photo {i + 1}"' in warning
    right = [each for i, each in enumerate(shown) if i not in wrong]
    clean = aggregate_photos(photos(len(right)), Scripted(*[[face(each)] for each in right]))
    assert clean.embedding @ identity.embedding > 0.98


def test_two_wrong_photos_of_the_same_stranger_do_not_win():
    rng = np.random.default_rng(7)
    person, stranger = direction(1), direction(0, 1)
    shown = [noisy(rng, stranger if i in (2, 6) else person, 0.8) for i in range(8)]
    identity = aggregate_photos(photos(8), Scripted(*[[face(each)] for each in shown]))
    assert identity.names == tuple(f"photo {i + 1}" for i in range(8) if i not in (2, 6))
    assert identity.embedding @ person > 0.95


@pytest.mark.parametrize("count", [3, 8])
def test_all_different_is_refused_by_name(count):
    found = [[face(direction(*[0] * i, 1))] for i in range(count)]
    with pytest.raises(BeyondFacialError, match=f'"photo 1", .* and "photo {count}" show different persons'):
        aggregate_photos(photos(count), Scripted(*found))


def test_what_is_kept_per_photo_goes_from_the_best_to_the_worst():
    rng = np.random.default_rng(8)
    shown = [noisy(rng, direction(1), 0.9) for _ in range(4)]
    scores, norms = (0.5, 0.9, 0.7, 0.6), (10.0, 20.0, 30.0, 40.0)
    found = [[face(each, norm, score)] for each, norm, score in zip(shown, norms, scores, strict=True)]
    identity = aggregate_photos(photos(4), Scripted(*found))
    order = [1, 2, 3, 0]
    np.testing.assert_allclose(identity.photos, [shown[i] for i in order], atol=1e-6)
    np.testing.assert_allclose(identity.norms, [norms[i] for i in order], rtol=1e-6)
    assert list(identity.weights) == sorted(identity.weights, reverse=True)
    assert identity.weights.sum() == pytest.approx(1, abs=1e-6)
    assert identity.norm == pytest.approx(float(identity.weights @ identity.norms), rel=1e-5)
    mean = identity.weights @ identity.photos
    np.testing.assert_allclose(identity.embedding, mean / np.linalg.norm(mean), atol=1e-6)
    assert identity.photos.dtype == identity.norms.dtype == identity.weights.dtype == np.float32
    assert (identity.aligned.shape, identity.aligned.dtype) == ((4, 224, 224, 3), np.uint8)
    assert (identity.space, identity.name, identity.gender) == ("scripted:0123456789", "", None)


def test_the_aligned_crops_follow_the_landmarks():
    """The square of side 112 lies as the template does: its crop is the square itself, at twice the size."""
    made = photos(1)
    aligned = aggregate_photos(made, Scripted([face(direction(1))])).aligned[0]
    np.testing.assert_allclose(aligned[:200:2, :200:2], made[0].image[:100, :100], atol=40)
    assert np.abs(aligned[:200:2, :200:2].astype(int) - made[0].image[:100, :100]).mean() < 4


def test_two_that_differ_are_used_with_a_warning():
    identity = aggregate_photos(photos(2), Scripted([face(direction(1))], [face(direction(0, 1))]))
    assert len(identity.names) == 2
    assert "may show different persons" in identity.warnings[0]


def test_photos_without_a_face_and_with_several():
    person = direction(1)
    found = [[], [face(person, side=100), face(direction(0, 1), side=50)], [face(person)]]
    identity = aggregate_photos(photos(3), Scripted(*found))
    assert identity.names == ("photo 2", "photo 3")
    assert any('"photo 2" shows 2 faces' in warning for warning in identity.warnings)
    assert any('No face was found in "photo 1"' in warning for warning in identity.warnings)
    np.testing.assert_allclose(identity.embedding, person, atol=1e-6)
    with pytest.raises(BeyondFacialError, match='No face was found in "photo 1";'):
        aggregate_photos(photos(1), Scripted([]))
    with pytest.raises(BeyondFacialError, match='"photo 1" and "photo 2"'):
        aggregate_photos(photos(2), Scripted([], []))


def test_counts_are_checked():
    for count in (0, 17):
        with pytest.raises(BeyondFacialError, match=f"{count} photos were given"):
            aggregate_photos(photos(1) * count, Scripted([face(direction(1))]))


def test_agreement_is_the_median_cosine_to_the_others():
    unit = np.stack([direction(1), direction(1), direction(0.6, 0.8), direction(-1)])
    np.testing.assert_allclose(quality.compute_agreement(unit), [0.6, 0.6, 0.6, 0.0], atol=1e-9)
    np.testing.assert_array_equal(quality.compute_agreement(unit[:2]), [1, 1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0.5, 0.95))
def test_identity_is_a_unit_vector_independent_of_order(seed, count, cosine):
    rng = np.random.default_rng(seed)
    person = noisy(rng, direction(1), 0.0)
    unit = np.stack([noisy(rng, person, cosine) for _ in range(count)])
    weights = rng.uniform(0.1, 1, count)
    weights /= weights.sum()
    mean = quality.mean_direction(unit, weights)
    assert np.linalg.norm(mean) == pytest.approx(1, abs=1e-6)
    assert mean @ person > cosine - 0.1
    order = rng.permutation(count)
    np.testing.assert_allclose(quality.mean_direction(unit[order], weights[order]), mean, atol=1e-6)


def test_opposite_faces_have_no_mean():
    with pytest.raises(BeyondFacialError, match="opposite"):
        quality.mean_direction(np.stack([direction(1), direction(-1)]), np.array([0.5, 0.5]))


def test_the_hash_follows_the_pixels():
    one, two = photos(2)
    assert aggregate.hash_photos([one]) == aggregate.hash_photos([Photo("other name", one.image.copy())])
    assert aggregate.hash_photos([one]) != aggregate.hash_photos([two])
    assert len(aggregate.hash_photos([one, two])) == 10


def test_reports_take_the_most_similar_face():
    identity = aggregate_photos(photos(1), Scripted([face(direction(1))]))
    stranger = face(direction(0, 1), side=100)
    hers = Face(np.array([-10, 20, 30, 80], np.float32), TEMPLATE, 0.8, (7 * direction(4, 3)).astype(np.float32))
    report = reports.compare(np.zeros((120, 240, 3), np.uint8), identity, Scripted([stranger, hers]))
    assert report.similarity == pytest.approx(0.8, abs=1e-6)
    assert report.box == (0, 20, 30, 80)
    assert report.face_area == pytest.approx(30 * 60 / (120 * 240))
    assert reports.compare(np.zeros((9, 9, 3), np.uint8), identity, Scripted([])) == reports.FaceReport(
        None, 0.0, None
    )


def test_through_the_real_pack(analyser, draw_faces):
    made = [Photo(f"photo {i}", draw_faces(1, noise=i)) for i in range(1, 4)]
    identity = aggregate_photos(made, analyser)
    same = reports.compare(draw_faces(1, boxes=((160, 32, 64),)), identity, analyser)
    other = reports.compare(draw_faces(2), identity, analyser)
    assert same.similarity > 0.97
    assert other.similarity < 0.9
    assert same.face_area == pytest.approx(1 / 16, rel=0.05)
    assert reports.compare(np.zeros((64, 64, 3), np.uint8), identity, analyser).similarity is None
