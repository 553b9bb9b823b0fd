"""Twenty pack folders as people have them: found under the right name and used, or refused with a sentence."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import analysis
from lib_beyondfacial.faces.analysis import FaceAnalyser, find_packs, get_analyser
from lib_beyondfacial.faces.packs import pack_dirs
from lib_beyondfacial.faces.recognisers import MOBILE, R50, R100, recogniser_of

CASES: dict[str, tuple[Callable[[Path, Path], object], str, str]] = {}  # -> (make, the pack's name, sentence or "")


def case(title: str, name: str = "antelopev2", want: str = "") -> Callable:
    def add(make: Callable[[Path, Path], object]) -> Callable[[Path, Path], object]:
        CASES[title] = make, name, want
        return make

    return add


def copy(good: Path, *places: Path) -> Path:
    for place in places:
        shutil.copytree(good, place)
    return places[-1]


def save_gender(path: Path, shape: list, width: int) -> None:
    """A gender model that declares `shape` and gives `width` numbers."""
    matrix = numpy_helper.from_array(np.ones((3, width), np.float32), "matrix")
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gender",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 96, 96])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [matrix],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def put_external_data(path: Path) -> None:
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="numbers.bin", size_threshold=0)


case("as published")(lambda good, root: copy(good, root / "antelopev2"))
case("nested, same name")(lambda good, root: copy(good, root / "antelopev2/antelopev2"))
case("nested, as GitHub unpacks")(lambda good, root: copy(good, root / "antelopev2/antelopev2-main"))
case("with a Mac's folder inside")(
    lambda good, root: copy(good, root / "antelopev2/__MACOSX/antelopev2", root / "antelopev2/antelopev2")
)
case("with a Mac's notes")(
    lambda good, root: (copy(good, root / "antelopev2") / "._det.onnx").write_bytes(b"Mac OS X")
)
case("a Mac's folder beside")(lambda good, root: copy(good, root / "__MACOSX", root / "antelopev2"))
case("upper case ending")(
    lambda good, root: (copy(good, root / "antelopev2") / "det.onnx").rename(root / "antelopev2/DET.ONNX")
)
case("damaged and not needed")(
    lambda good, root: (copy(good, root / "antelopev2") / "1k3d68.onnx").write_bytes(b"not a model")
)
case("empty and not needed")(lambda good, root: (copy(good, root / "antelopev2") / "2d106det.onnx").write_bytes(b""))
case("gender model damaged")(lambda good, root: (copy(good, root / "antelopev2") / "gender.onnx").write_bytes(b"\xff"))
case("gender model of two numbers")(
    lambda good, root: save_gender(copy(good, root / "antelopev2") / "gender.onnx", [1, 2], 2)
)
case("gender model that gives less than it says")(
    lambda good, root: save_gender(copy(good, root / "antelopev2") / "gender.onnx", ["n", "m"], 2)
)
case("brackets and letters in the name", "antelopev2 [ü]")(lambda good, root: copy(good, root / "antelopev2 [ü]"))
case("linked")(lambda good, root: (root / "antelopev2").symlink_to(good, target_is_directory=True))
case("linked files")(
    lambda good, root: [
        (root / "antelopev2").mkdir(),
        *((root / "antelopev2" / path.name).symlink_to(path) for path in good.iterdir()),
    ]
)
case("damaged recogniser", want='"rec.onnx" of the face pack "antelopev2" is damaged')(
    lambda good, root: (copy(good, root / "antelopev2") / "rec.onnx").write_bytes(b"cut")
)
case("no detector", want='"antelopev2" is no whole insightface pack')(
    lambda good, root: (copy(good, root / "antelopev2") / "det.onnx").unlink()
)
case("numbers in another file", want='"rec.onnx" in the face pack "antelopev2" keeps its numbers in another file')(
    lambda good, root: put_external_data(copy(good, root / "antelopev2") / "rec.onnx")
)
case("archive, not unpacked", "", "not found")(lambda good, root: (root / "antelopev2.zip").write_bytes(b"PK\3\4"))
case("a pipe and a socket")(
    lambda good, root: [
        os.mkfifo(copy(good, root / "antelopev2") / "pipe.onnx"),
        os.chdir(root / "antelopev2"),
        socket.socket(socket.AF_UNIX).bind("plug.onnx"),
    ]
)


@pytest.fixture(scope="module")
def good(make_pack, tmp_path_factory) -> Path:
    return make_pack(tmp_path_factory.mktemp("good") / "good", side=256)


@pytest.mark.skipif(os.name != "posix", reason="links, pipes and sockets as POSIX has them")
@pytest.mark.parametrize("title", CASES)
def test_pack_folder(title, good, tmp_path, draw_faces, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, name, want = CASES[title]
    make(good, tmp_path)
    found = find_packs([tmp_path])
    if want == "not found":
        assert found == {}
        return
    assert list(found) == [name]
    if want:
        with pytest.raises(BeyondFacialError, match=want) as caught:
            get_analyser(found[name], name=name)
        assert str(tmp_path) not in str(caught.value)
        return
    analyser = get_analyser(found[name], name=name)
    assert analyser.name == name
    assert analyser.space.startswith(f"{name}:")
    assert len(analyser.find(draw_faces(1))) == 1
    assert analyser.tells_gender == (not title.startswith("gender"))
    analysis.unload_analysers()


def test_both_engines_ignore_a_wrong_gender_model(good, tmp_path, draw_faces, monkeypatch):
    pack = copy(good, tmp_path / "pack")
    save_gender(pack / "gender.onnx", [1, 3], 3)
    model = onnx.load(str(pack / "gender.onnx"))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((3, 3), np.nan, np.float32), "matrix"))
    onnx.save(model, str(pack / "gender.onnx"))
    for engine in ("insightface", "onnxruntime"):
        analyser = FaceAnalyser(pack)
        assert analyser.engine == engine
        assert not analyser.tells_gender
        assert analyser.find(draw_faces(1))[0].gender is None
        monkeypatch.setitem(sys.modules, "insightface.app", None)


def test_where_packs_lie(good, tmp_path):
    places = {
        "models/insightface/models": "a",
        "models/ControlNetPreprocessor/insightface/models": "b",
        "extensions/sd-webui-controlnet/annotator/downloads/insightface/models": "c",
    }
    for place, name in places.items():
        copy(good, tmp_path / place / name)
    assert set(find_packs(pack_dirs(tmp_path / "models"))) == {"a", "b", "c"}
    assert pack_dirs(tmp_path / "nowhere" / "models") == []


def test_the_recogniser_is_told_by_the_files(tmp_path):
    """Sparse files of the published sizes."""
    for name, file, size in (
        ("antelopev2", "w600k_r50.onnx", 174_383_860),
        ("mine", "model.onnx", 260_665_334),
        ("small", "recognition.onnx", 13_616_099),
        ("named", "w600k_r50.onnx", 10),
        ("buffalo_l", "rec.onnx", 10),
    ):
        (tmp_path / name).mkdir()
        with (tmp_path / name / file).open("wb") as stream:
            stream.truncate(size)
    by_folder = {folder.name: recogniser_of(folder.name, folder) for folder in tmp_path.iterdir()}
    assert by_folder == {"antelopev2": R50, "mine": R100, "small": MOBILE, "named": R50, "buffalo_l": R50}
    assert recogniser_of("other", tmp_path / "gone") is None


@pytest.mark.parametrize("spoil", ["overwritten", "cut off", "deleted"])
def test_a_pack_that_changes_while_it_is_used(spoil, good, tmp_path, draw_faces):
    """What is loaded goes on; the next request hears of it."""
    pack = copy(good, tmp_path / "pack")
    analyser, image = get_analyser(pack), draw_faces(1)
    before, space = analyser.find(image)[0].embedding, analyser.space
    for path in pack.iterdir():
        if spoil == "deleted":
            path.unlink()
        else:
            path.write_bytes(bytes(path.stat().st_size) if spoil == "overwritten" else b"")
    np.testing.assert_array_equal(analyser.find(image)[0].embedding, before)
    assert analyser.space == space
    with pytest.raises(BeyondFacialError, match='"pack"'):
        get_analyser(pack)
    analysis.unload_analysers()
