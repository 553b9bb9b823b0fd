"""A small self-made insightface pack, in the real form, whose answers are known beforehand.

The detector fires on squares with much red (sides of 32, 64 and 128 pixels in its input), the recogniser is a fixed
random matrix on the 8 x 8 colours of the aligned crop, gender is told by blue. All runs through the real FaceAnalysis.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lib_beyondfacial.faces import Library, Photo, aggregate_photos
from lib_beyondfacial.faces.analysis import FaceAnalyser

TEMPLATE = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]], np.float32)
OPSET, IR_VERSION = 13, 8


def constant(name: str, value) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype=None), name)


def save(path: Path, nodes, inputs, outputs, constants) -> None:
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def save_detector(path: Path, side: int | None = None) -> None:
    """SCRFD's form: 9 outputs, strides 8, 16, 32, two anchors; `side` fixes the input size.

    Each stride needs its own name for the number of rows: onnxruntime shares buffers between equal names.
    """
    nodes = [
        helper.make_node("Gather", ["input", "zero"], ["red"], axis=1),
        helper.make_node("Mul", ["red", "four"], ["red4"]),
        helper.make_node("Clip", ["red4", "low", "high"], ["map"]),
    ]
    constants = [constant("zero", np.array([0], np.int64)), constant("four", np.float32(4))]
    constants += [constant("low", np.float32(0)), constant("high", np.float32(1))]
    constants += [constant("rows1", np.array([-1, 1], np.int64)), constant("repeat", np.array([1, 2], np.int64))]
    scores, boxes, points = [], [], []
    landmarks = (TEMPLATE / 112 * 4 - 2).reshape(1, 10)  # the template fills the square of side 4 strides
    constants += [constant("box", np.full((1, 4), 2, np.float32)), constant("points", landmarks)]
    for stride in (8, 16, 32):
        pools = {"inner": 4 * stride, "outer": 6 * stride}
        for pool, kernel in pools.items():
            begin = kernel // 2
            pads = [begin, begin, begin - stride, begin - stride]
            nodes.append(
                helper.make_node(
                    "AveragePool", ["map"], [f"{pool}{stride}"],
                    kernel_shape=[kernel, kernel], strides=[stride, stride], pads=pads, count_include_pad=1,
                )
            )  # fmt: skip
        names = {key: f"{key}{stride}" for key in ("a", "b", "c", "d", "e", "f", "g", "h", "flat", "twice", "ones")}
        constants += [constant(f"t{stride}", np.float32(0.75)), constant(f"u{stride}", np.float32(0.5))]
        constants += [constant(f"k{stride}", np.float32(40)), constant(f"m{stride}", np.float32(80))]
        nodes += [
            helper.make_node("Sub", [f"inner{stride}", f"t{stride}"], [names["a"]]),
            helper.make_node("Mul", [names["a"], f"k{stride}"], [names["b"]]),
            helper.make_node("Sub", [f"outer{stride}", f"u{stride}"], [names["c"]]),
            helper.make_node("Relu", [names["c"]], [names["d"]]),
            helper.make_node("Mul", [names["d"], f"m{stride}"], [names["e"]]),
            helper.make_node("Sub", [names["b"], names["e"]], [names["f"]]),
            helper.make_node("Sigmoid", [names["f"]], [names["g"]]),
            helper.make_node("Reshape", [names["g"], "rows1"], [names["flat"]]),
            helper.make_node("Tile", [names["flat"], "repeat"], [names["twice"]]),
            helper.make_node("Reshape", [names["twice"], "rows1"], [f"score{stride}"]),
            helper.make_node("Mul", [f"score{stride}", f"zero_f{stride}"], [names["h"]]),
            helper.make_node("Add", [names["h"], "box"], [f"box{stride}"]),
            helper.make_node("Add", [names["h"], "points"], [f"points{stride}"]),
        ]
        constants.append(constant(f"zero_f{stride}", np.float32(0)))
        for group, name, width in ((scores, "score", 1), (boxes, "box", 4), (points, "points", 10)):
            group.append(helper.make_tensor_value_info(f"{name}{stride}", TensorProto.FLOAT, [f"n{stride}", width]))
    size = [side, side] if side else ["height", "width"]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *size])]
    save(path, nodes, inputs, [*scores, *boxes, *points], constants)


def save_recogniser(path: Path, width: int = 512) -> None:
    """ArcFace's form: (1, 3, 112, 112) -> (1, width)."""
    matrix = np.random.default_rng(5).standard_normal((192, width)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["data"], ["cells"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["embedding"]),
    ]
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, width])]
    save(path, nodes, inputs, outputs, [constant("matrix", matrix)])


def save_gender(path: Path) -> None:
    """insightface's form: 96 x 96 -> (female, male, age / 100); much blue is male."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["out"]),
    ]
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 96, 96])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3])]
    save(path, nodes, inputs, outputs, [constant("matrix", np.array([[0, 0, 0], [0, 0, 0], [-1, 1, 0]], np.float32))])


def draw(person: int, size: int = 256, boxes=((96, 96, 64),), noise: int = 0) -> np.ndarray:
    """A black picture with red squares (x, y, side), each carrying the texture of person `who` in green and blue."""
    image = np.zeros((size, size, 3), np.uint8)
    texture = np.random.default_rng(person).integers(0, 256, (4, 4, 2))
    jitter = np.random.default_rng([person, noise]).integers(-20, 21, (4, 4, 2)) if noise else 0
    for x, y, side in boxes:
        cells = np.clip(texture + jitter, 0, 255).repeat(-(-side // 4), 0).repeat(-(-side // 4), 1)[:side, :side]
        image[y : y + side, x : x + side, 0] = 255
        image[y : y + side, x : x + side, 1:] = cells
    return image


def save_pack(folder: Path, side: int | None = None, width: int = 512) -> Path:
    folder.mkdir(parents=True)
    save_detector(folder / "det.onnx", side)
    save_recogniser(folder / "rec.onnx", width)
    save_gender(folder / "gender.onnx")
    return folder


@pytest.fixture(scope="session")
def make_pack():
    """save_pack(folder, side=None, width=512): writes a pack; `side` fixes the detector's input."""
    return save_pack


@pytest.fixture(scope="session")
def draw_faces():
    """draw(who, size, boxes, noise): see there."""
    return draw


@pytest.fixture(scope="session")
def any_size_analyser(tmp_path_factory) -> FaceAnalyser:
    """A detector that takes any size, as published packs do."""
    return FaceAnalyser(save_pack(tmp_path_factory.mktemp("models") / "squares"))


@pytest.fixture(scope="session")
def analyser(tmp_path_factory) -> FaceAnalyser:
    """A detector whose input is fixed to 256 x 256: quick."""
    return FaceAnalyser(save_pack(tmp_path_factory.mktemp("models") / "squares256", side=256))


@pytest.fixture(scope="session")
def identity(analyser, draw_faces):
    return aggregate_photos([Photo(f"secret-{i}.jpg", draw_faces(1, noise=i)) for i in (1, 2, 3)], analyser)


@pytest.fixture
def library(tmp_path) -> Library:
    return Library(tmp_path / "models" / "identities")
