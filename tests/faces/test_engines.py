"""onnxruntime and OpenCV alone give what insightface gives, model for model and number for number."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from demo.dollhouse.draw import draw
from demo.dollhouse.world import random_picture
from lib_beyondfacial.faces import alignment, packs, scrfd
from lib_beyondfacial.faces.analysis import FaceAnalyser
from lib_beyondfacial.faces.engine_insightface import InsightfaceEngine
from lib_beyondfacial.faces.engine_onnx import OnnxEngine
from lib_beyondfacial.faces.onnx_names import first_node_names

ROOT = Path(__file__).parents[2]
DOLLHOUSE = ROOT / "demo/dollhouse/weights/models/insightface/models/dollhouse"
CPU = ["CPUExecutionProvider"]


def both(pack: Path) -> tuple[InsightfaceEngine, OnnxEngine]:
    return InsightfaceEngine(pack, CPU), OnnxEngine(packs.onnx_files(pack), CPU)


def assert_same(found, expected) -> None:
    assert len(found) == len(expected)
    for result, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result.box, reference.box)
        np.testing.assert_array_equal(result.landmarks, reference.landmarks)
        assert result.score == reference.score
        assert result.gender == reference.gender
        # the turn is found in another way; its last bits may move a warped pixel by one level
        np.testing.assert_allclose(
            result.embedding, reference.embedding, atol=2e-3 * np.linalg.norm(reference.embedding)
        )
        assert result.normed_embedding @ reference.normed_embedding > 0.99999


def test_on_the_self_made_pack(any_size_analyser, analyser, draw_faces):
    pictures = [draw_faces(1), draw_faces(2, size=320, boxes=((96, 96, 32), (192, 192, 64)))]
    pictures += [draw_faces(3, boxes=((24, 32, 32), (128, 128, 64))), np.zeros((90, 60, 3), np.uint8)]
    pictures[1][:80, :, 2] = 255  # much blue around: the other gender
    for pack in (any_size_analyser.pack_dir, analyser.pack_dir):
        reference, result = both(pack)
        assert (result.fixed_size, result.tells_gender) == (reference.fixed_size, reference.tells_gender)
        assert (result.recogniser, result.embedding_width) == (reference.recogniser, reference.embedding_width)
        for picture in pictures:
            bgr = np.ascontiguousarray(picture[..., ::-1])
            for size in (result.fixed_size,) if result.fixed_size else ((640, 640), (384, 384), (256, 256)):
                assert_same(result.find(bgr, size, 0.5), reference.find(bgr, size, 0.5))


@pytest.mark.weights
def test_on_the_dollhouse_pack():
    reference, result = both(DOLLHOUSE)
    rng, faces, size = np.random.default_rng(11), 0, result.fixed_size or (128, 128)
    for shot in ("close-up", "half", "full") * 4:
        picture = draw(random_picture(rng, shot=shot), 192, 160)[0][..., ::-1]
        found = result.find(np.ascontiguousarray(picture), size, 0.5)
        assert_same(found, reference.find(np.ascontiguousarray(picture), size, 0.5))
        faces += len(found)
    assert faces >= 10


def save_random_detector(path: Path, outputs: int, is_batched: bool) -> None:
    """SCRFD's form with random weights: 6 or 10 outputs without landmarks, 9 or 15 with; batched or not."""
    strides = (8, 16, 32) if outputs in (6, 9) else (8, 16, 32, 64, 128)
    anchors = 2 if len(strides) == 3 else 1
    rng = np.random.default_rng(outputs)
    nodes, constants, groups = [], [], []
    for part, width in (("score", 1), ("box", 4), ("points", 10))[: outputs // len(strides)]:
        group = []
        for stride in strides:
            key, channels = f"{part}{stride}", anchors * width
            weight = rng.standard_normal((channels, 3, 1, 1)).astype(np.float32) * (3 if part == "score" else 1)
            shape = [1, -1, width] if is_batched else [-1, width]
            constants += [numpy_helper.from_array(weight, f"w_{key}")]
            constants += [numpy_helper.from_array(np.array(shape, np.int64), f"s_{key}")]
            nodes += [
                helper.make_node("AveragePool", ["x"], [f"p_{key}"], kernel_shape=[stride] * 2, strides=[stride] * 2),
                helper.make_node("Conv", [f"p_{key}", f"w_{key}"], [f"c_{key}"]),
                helper.make_node("Transpose", [f"c_{key}"], [f"t_{key}"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"t_{key}", f"s_{key}"], [f"r_{key}"]),
                helper.make_node("Sigmoid" if part == "score" else "Abs", [f"r_{key}"], [key]),
            ]
            dims = ([1] if is_batched else []) + [f"n{stride}", width]
            group.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, dims))
        groups += group
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])]
    graph = helper.make_graph(nodes, "detector", inputs, groups, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


@pytest.mark.parametrize(("outputs", "is_batched"), [(9, False), (9, True), (15, False), (15, True)])
def test_each_form_of_detector(outputs, is_batched, make_pack, tmp_path):
    """Random weights give hundreds of overlapping boxes: anchors, strides, scores and overlaps all matter."""
    pack = make_pack(tmp_path / "random", side=256)
    save_random_detector(pack / "det.onnx", outputs, is_batched)
    reference, result = both(pack)
    rng = np.random.default_rng(3)
    for shape, size in (((200, 300, 3), (256, 256)), ((333, 100, 3), (256, 128)), ((64, 64, 3), (128, 384))):
        picture = rng.integers(0, 256, shape).astype(np.uint8).repeat(2, 0).repeat(2, 1)
        expected, points = reference._app.det_model.detect(picture, input_size=size, det_thresh=0.6)
        boxes, landmarks = result._detector.find(picture, size, 0.6)
        assert len(expected) > 5
        np.testing.assert_array_equal(boxes, expected)
        np.testing.assert_array_equal(landmarks, points.astype(np.float32))


@pytest.mark.parametrize("outputs", [6, 10])
def test_a_detector_without_landmarks_is_refused_by_both(outputs, make_pack, tmp_path, monkeypatch):
    pack = make_pack(tmp_path / "boxes", side=256)
    save_random_detector(pack / "det.onnx", outputs, False)
    with pytest.raises(packs.BeyondFacialError, match='The detector of the face pack "boxes" gives no landmarks'):
        FaceAnalyser(pack)
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(packs.BeyondFacialError, match='The detector of the face pack "boxes" gives no landmarks'):
        FaceAnalyser(pack)


def rename_nodes(path: Path, names: list[str]) -> None:
    model = onnx.load(str(path))
    for node, name in zip(model.graph.node, names, strict=False):
        node.name = name
    onnx.save(model, str(path))


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("rec.onnx", ["Sub_0", "Mul_1"]),
        ("rec.onnx", ["_minusscalar0", "_mulscalar0"]),
        ("rec.onnx", ["Sub_0", "Conv_1"]),
        ("gender.onnx", ["bn_data", "Sub"]),
        ("gender.onnx", ["Sub", "Mul"]),
        ("gender.onnx", ["Conv", "Relu"]),
    ],
)
def test_the_scaling_of_pixels_is_told_by_the_same_names(file, names, make_pack, tmp_path, draw_faces):
    pack = make_pack(tmp_path / "named", side=256)
    rename_nodes(pack / file, names)
    reference, result = both(pack)
    task, key = ("recognition", "recognition") if file == "rec.onnx" else ("gender", "genderage")
    model = reference._app.models[key]
    assert result._scaling[task] == (model.input_mean, model.input_std)
    bgr = np.ascontiguousarray(draw_faces(1)[..., ::-1])
    assert_same(result.find(bgr, (256, 256), 0.5), reference.find(bgr, (256, 256), 0.5))


def test_node_names_as_onnx_reads_them(make_pack, tmp_path):
    pack = make_pack(tmp_path / "pack", side=256)
    rename_nodes(pack / "rec.onnx", ["first", "", "dritte Ebene"])
    for path in packs.onnx_files(pack):
        expected = [node.name for node in onnx.load(str(path)).graph.node[:8]]
        assert first_node_names(path) == expected
    assert first_node_names(pack / "rec.onnx", 2) == ["first", ""]


def test_node_names_of_no_onnx_file(tmp_path):
    path = tmp_path / "x.onnx"
    rng = np.random.default_rng(0)
    for data in (b"\x3a\xff\xff\xff\xff\x7f", b"\xff" * 20, b"\x3a\x05ab", *(rng.bytes(64) for _ in range(100))):
        path.write_bytes(data)
        with contextlib.suppress(ValueError):  # nothing else may come of it
            assert len(first_node_names(path)) <= 8


def test_aligned_crop_equals_insightfaces():
    from insightface.utils import face_align

    rng = np.random.default_rng(6)
    for _ in range(20):
        image = rng.integers(0, 256, (90, 120, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        turn = np.deg2rad(rng.uniform(-180, 180))
        linear = rng.uniform(0.5, 2.5) * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        landmarks = alignment.TEMPLATE @ linear.T + rng.uniform(100, 300, 2) + rng.normal(0, 3, (5, 2))
        landmarks = landmarks.astype(np.float32)
        for size in (112, 224):
            result = alignment.align_face(image, landmarks, size)
            difference = np.abs(result.astype(int) - face_align.norm_crop(image, landmarks, size))
            assert difference.mean() < 0.02
            assert (difference > 0).mean() < 0.01
        small = alignment.align_face(image, landmarks)
        kept = alignment.aligned_to_crops(alignment.align_face(image, landmarks, 224)[None])[0]
        assert np.abs(small.astype(int) - kept).mean() < 0.1


def test_points_in_one_place_are_only_shifted():
    matrix = alignment.similarity_transform(np.full((5, 2), 7.0), alignment.TEMPLATE)
    np.testing.assert_allclose(matrix[:, :2], np.eye(2))
    np.testing.assert_allclose(matrix[:, 2], alignment.TEMPLATE.mean(axis=0) - 7, atol=1e-5)


def test_overlaps_by_hand():
    boxes = np.array([[0, 0, 9, 9, 0.9], [0, 0, 9, 4, 0.8], [5, 0, 14, 9, 0.7], [50, 50, 59, 59, 0.6]], np.float32)
    # shared of the union: 50 of 100 (dropped), 50 of 150 (kept), none
    assert scrfd.suppress_overlaps(boxes) == [0, 2, 3]
    assert scrfd.suppress_overlaps(boxes[:0]) == []


WITHOUT = """
import importlib.abc, json, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("insightface", "onnx", "skimage", "scipy"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[2])
import numpy as np
from lib_beyondfacial.faces import get_analyser
analyser = get_analyser(sys.argv[1])
faces = analyser.find(np.load(sys.argv[3]))
print(json.dumps([analyser.engine, analyser.space, [f.embedding.tolist() for f in faces], faces[0].gender]))
"""


def test_where_insightface_cannot_be_imported(any_size_analyser, draw_faces, tmp_path):
    """In a process of its own without insightface, onnx, skimage and scipy: used by itself, and told."""
    image = draw_faces(3, size=320, boxes=((96, 96, 32), (192, 192, 64)))
    np.save(tmp_path / "image.npy", image)
    arguments = [sys.executable, "-c", WITHOUT, any_size_analyser.pack_dir, ROOT, tmp_path / "image.npy"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-2000:]
    engine, space, embeddings, gender = json.loads(done.stdout.splitlines()[-1])
    expected = any_size_analyser.find(image)
    assert (engine, any_size_analyser.engine) == ("onnxruntime", "insightface")
    assert space == any_size_analyser.space
    assert gender == expected[0].gender
    np.testing.assert_allclose(embeddings, [face.embedding for face in expected], atol=0.05)
