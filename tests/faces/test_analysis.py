"""Faces through the real insightface with self-made packs, offline."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from lib_beyondfacial.faces import analysis, vendor
from lib_beyondfacial.faces.analysis import get_analyser
from tests.faces.conftest import TEMPLATE

pytestmark = pytest.mark.filterwarnings("ignore:.*estimate.*is deprecated:FutureWarning")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever looks for a host fails the test."""
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, lambda *_a, **_k: pytest.fail("a host was looked up"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_a, **_k: pytest.fail("a connection was tried"))


def test_faces_are_found_with_all_that_the_pack_says(analyser, draw_faces):
    image = draw_faces(1, size=256, boxes=((24, 32, 32), (128, 128, 64)))
    large, small = analyser.find(image)
    np.testing.assert_allclose(large.box, [128, 128, 192, 192], atol=1)
    np.testing.assert_allclose(small.box, [24, 32, 56, 64], atol=1)
    np.testing.assert_allclose(large.landmarks[0], 128 + np.array([38.29, 51.70]) / 112 * 64, atol=0.1)
    assert large.score > 0.9
    assert large.detector_size == 256
    assert large.area == pytest.approx(64 * 64)
    assert large.embedding.shape == (512,)
    assert large.embedding.dtype == np.float32
    assert np.linalg.norm(large.embedding) > 10  # raw
    assert np.linalg.norm(large.normed_embedding) == pytest.approx(1, abs=1e-6)
    assert large.normed_embedding @ small.normed_embedding > 0.95  # the same person


def test_persons_differ_and_gender_is_told(analyser, draw_faces):
    image = draw_faces(1)
    one, other = (analyser.find(draw_faces(person))[0] for person in (1, 2))
    assert one.normed_embedding @ other.normed_embedding < 0.9
    blue, dark = image.copy(), image.copy()
    blue[96:160, 96:160, 2], dark[96:160, 96:160, 2] = 255, 0
    blue[:80, :, 2] = blue[170:, :, 2] = 255
    assert analyser.find(blue)[0].gender == "male"
    assert analyser.find(dark)[0].gender == "female"


def test_equal_to_plain_insightface(any_size_analyser, draw_faces):
    from insightface.app import FaceAnalysis

    image = draw_faces(3, size=320, boxes=((96, 96, 32), (192, 192, 64)))
    plain = FaceAnalysis(name=str(any_size_analyser.pack_dir), providers=["CPUExecutionProvider"])
    plain.prepare(ctx_id=0, det_size=(640, 640))
    expected = sorted(plain.get(np.ascontiguousarray(image[..., ::-1])), key=lambda face: face.bbox[0])
    found = sorted(any_size_analyser.find(image), key=lambda face: face.box[0])
    assert len(found) == len(expected) == 2
    for result, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result.box, reference.bbox)
        np.testing.assert_array_equal(result.landmarks, reference.kps)
        np.testing.assert_array_equal(result.embedding, reference.embedding)


def test_detector_steps_down_then_pads(any_size_analyser, draw_faces):
    """The detector knows squares of 32, 64 and 128 of its own pixels only."""
    for side, size in ((64, 640), (128, 256)):
        face = any_size_analyser.find(draw_faces(1, size=256, boxes=((64, 64, side),)))[0]
        assert (face.detector_size, round(face.box[2] - face.box[0])) == (size if side == 128 else 512, side)
    filling = any_size_analyser.find(draw_faces(1, size=128, boxes=((0, 0, 128),)))[0]
    assert filling.detector_size == 256
    np.testing.assert_allclose(filling.box, [0, 0, 128, 128], atol=1)
    assert any_size_analyser.find(draw_faces(1, size=256))[0].detector_size == 512  # and back up again


@pytest.mark.parametrize("is_high", [False, True])
def test_a_wide_or_high_picture_is_searched_square_by_square(analyser, draw_faces, is_high):
    """Whole, its heads would be 26 and 13 of the detector's 256 px, and it knows 32 and 64 (one in two squares)."""
    boxes = np.array([[256, 96, 320, 160], [544, 32, 576, 64]])
    boxes = boxes[:, [1, 0, 3, 2]] if is_high else boxes
    image = draw_faces(1, size=640, boxes=[(x, y, x1 - x) for x, y, x1, _ in boxes])
    faces = analyser.find(image[:, :256] if is_high else image[:256])
    assert len(faces) == 2
    np.testing.assert_allclose([face.box for face in faces], boxes, atol=1)
    for face, (x, y, x1, _) in zip(faces, boxes, strict=True):
        np.testing.assert_allclose(face.landmarks, TEMPLATE / 112 * (x1 - x) + [x, y], atol=0.5)
        assert not face.padded


def test_a_strip_is_not_cut_into_squares(analyser):
    """64:1 would be 127 of them."""
    asked = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(analyser._engine, "find", lambda picture, *_: asked.append(picture.shape) or [])
        analyser.find(np.zeros((16, 144, 3), np.uint8))
        analyser.find(np.zeros((100, 120, 3), np.uint8))
        assert len(asked) == 4
        analyser.find(np.zeros((100, 150, 3), np.uint8))
    assert asked[5:7] == [(100, 100, 3)] * 2


def test_sizes_step_down_with_older_insightface_too(make_pack, tmp_path, draw_faces, monkeypatch):
    """Before release 1.0 a detector kept the first size that it was prepared with, and said so on the console."""
    from insightface.model_zoo.scrfd import SCRFD

    def prepare(detector, ctx_id, input_size, det_thresh):
        detector.det_thresh = det_thresh
        if detector.input_size is None:
            detector.input_size, detector.input_sizes = input_size, [input_size]

    monkeypatch.setattr(SCRFD, "prepare", prepare)
    analyser = analysis.FaceAnalyser(make_pack(tmp_path / "old"))
    assert analyser.engine == "insightface"
    for side, size in ((64, 512), (128, 256), (64, 512)):
        assert analyser.find(draw_faces(1, size=256, boxes=((64, 64, side),)))[0].detector_size == size


def test_fixed_detector_pads_too(analyser, draw_faces):
    filling = analyser.find(draw_faces(1, size=256, boxes=((0, 0, 256),)))[0]
    np.testing.assert_allclose(filling.box, [0, 0, 256, 256], atol=1)


def test_a_huge_photo_is_shrunk_before_it_is_padded(analyser, draw_faces, monkeypatch):
    """What the border would make of 16384 pixels is more than OpenCV can warp, and hundreds of MB."""
    shapes, find = [], analyser._engine.find
    monkeypatch.setattr(
        analyser._engine, "find", lambda picture, *rest: shapes.append(picture.shape) or find(picture, *rest)
    )
    assert analyser.find(np.zeros((300, 16_384, 3), np.uint8)) == []
    filling = draw_faces(1, size=250, boxes=((0, 0, 250),))
    (small,), (large,) = analyser.find(filling), analyser.find(filling.repeat(12, 0).repeat(12, 1))
    assert shapes == [
        (300, 16_384, 3),
        (2086, 4096, 3),
        (250, 250, 3),
        (500, 500, 3),
        (3000, 3000, 3),
        (4096, 4096, 3),
    ]
    assert large.padded
    np.testing.assert_allclose(large.box, [0, 0, 3000, 3000], atol=12)
    np.testing.assert_allclose(large.landmarks, small.landmarks * 12, atol=15)
    assert large.normed_embedding @ small.normed_embedding > 0.99


def test_no_face_and_odd_shapes(analyser):
    for shape in ((64, 48, 3), (1, 1, 3), (2, 3000, 3), (3000, 2, 3), (33, 900, 3)):
        assert analyser.find(np.zeros(shape, np.uint8)) == []


def test_analysers_are_kept_until_the_files_change(make_pack, tmp_path):
    pack = make_pack(tmp_path / "kept", side=256)
    first = get_analyser(pack)
    assert get_analyser(pack) is first
    stat = (pack / "det.onnx").stat()
    os.utime(pack / "det.onnx", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    assert get_analyser(pack) is not first
    analysis.unload_analysers()


def test_telemetry_and_update_checks_are_off(monkeypatch, tmp_path):
    for name in ("ORT_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    vendor.use_vendor(tmp_path)
    vendor.use_vendor(tmp_path)
    vendor.use_vendor(tmp_path / "absent")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    assert str(tmp_path / "absent") not in sys.path


def test_import_loads_neither_insightface_nor_onnxruntime():
    code = (
        "import sys, lib_beyondfacial.faces, lib_beyondfacial.adapters;"
        "print([name for name in ('insightface', 'onnxruntime', 'safetensors', 'cv2') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
