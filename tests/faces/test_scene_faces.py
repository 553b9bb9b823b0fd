"""In a generated picture neither the picture itself nor a border's find is a face."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lib_beyondfacial.faces import analysis, reports
from lib_beyondfacial.faces.face import Face

LANDMARKS = np.zeros((5, 2), np.float32)


class Engine:
    """Finds, in whatever it is shown, what `found` makes of the shown picture's (height, width)."""

    name, providers, tells_gender, fixed_size = "scripted", ["CPU"], False, (256, 256)
    recogniser = Path(__file__)  # any file: its hash names the space

    def __init__(self, found):
        self.found, self.shown = found, []

    def find(self, picture, size, threshold):
        self.shown.append(picture.shape[:2])
        boxes = self.found(*picture.shape[:2])
        return [Face(np.array(box, np.float32), LANDMARKS, 0.9, np.ones(512, np.float32)) for box in boxes]


@pytest.fixture
def analyser_of(monkeypatch, tmp_path):
    def analyser_of(found):
        monkeypatch.setattr(analysis, "load_engine", lambda *_: Engine(found))
        return analysis.FaceAnalyser(tmp_path)

    return analyser_of


def filling(share: float):
    return lambda height, width: [(0, 0, width, share * height)]


@pytest.mark.parametrize(("share", "count"), [(0.5, 1), (0.75, 1), (0.85, 0), (1.0, 0)])
@pytest.mark.parametrize("size", [(192, 192), (192, 384), (600, 200)])
def test_a_box_that_fills_what_is_searched_is_no_face(analyser_of, share, count, size):
    assert bool(analyser_of(filling(share)).find_in_scene(np.zeros((*size, 3), np.uint8))) == bool(count)


def test_box_larger_than_the_picture_is_no_face(analyser_of):
    found = analyser_of(lambda height, width: [(-9, -9, width + 9, height + 9)])
    assert found.find_in_scene(np.zeros((64, 96, 3), np.uint8)) == []


def test_no_border_around_a_scene(analyser_of):
    """A border is for photos that are all face: it quadruples what is searched."""
    only_with_border = analyser_of(lambda height, width: [(90, 90, 150, 150)] if height > 128 else [])
    image = np.zeros((128, 128, 3), np.uint8)
    assert only_with_border.find(image)[0].padded
    assert only_with_border.find_in_scene(image) == []


def test_the_report_does_not_take_the_picture_for_a_face(analyser_of):
    person = SimpleNamespace(embedding=np.ones(512, np.float32) / 512**0.5)
    report = reports.compare(np.zeros((96, 96, 3), np.uint8), person, analyser_of(filling(1.0)))
    assert report == reports.FaceReport(None, 0.0, None)


def test_a_box_as_high_and_as_wide_as_the_shorter_side_is_no_face(analyser_of):
    assert analyser_of(lambda height, width: [(7, 0, 220, 192)]).find_in_scene(np.zeros((192, 384, 3), np.uint8)) == []


def test_with_more_faces_wanted_the_search_goes_on(analyser_of):
    def found(height, width):
        return [(10, 10, 90, 90)] if width > height else [(20, 20, 40, 40), (120, 20, 140, 40)]

    image = np.zeros((192, 384, 3), np.uint8)
    assert len(analyser_of(found).find_in_scene(image)) == 1
    assert len(analyser_of(found).find_in_scene(image, wanted=2)) > 1
    assert len(analyser_of(lambda h, w: [(10, 10, 90, 90)] * (w > h)).find_in_scene(image, wanted=2)) == 1
