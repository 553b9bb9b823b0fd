"""Face packs as they lie on users' disks: found, or refused in one sentence with folder and files; never looked up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib_beyondfacial.common import hash_file
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import analysis, packs
from lib_beyondfacial.faces.analysis import find_packs, get_analyser

ROOT = Path(__file__).parents[2]


def test_packs_are_found_nested_too(make_pack, tmp_path):
    make_pack(tmp_path / "a" / "plain", side=256)
    make_pack(tmp_path / "a" / "antelopev2" / "antelopev2", side=256)
    make_pack(tmp_path / "b" / "plain", side=256)
    (tmp_path / "a" / "empty").mkdir()
    (tmp_path / "a" / "loose.onnx").write_bytes(b"")
    found = find_packs([tmp_path / "a", tmp_path / "b", tmp_path / "absent"])
    assert found == {"plain": tmp_path / "a" / "plain", "antelopev2": tmp_path / "a" / "antelopev2" / "antelopev2"}
    assert get_analyser(found["antelopev2"]).name == "antelopev2"


def bad_packs(folder: Path, make_pack) -> dict[str, list[str]]:
    """Name of a bad pack -> what its sentence must hold."""
    good = make_pack(folder / "good", side=256)
    cut = shutil.copytree(good, folder / "cut")
    (cut / "rec.onnx").write_bytes((good / "rec.onnx").read_bytes()[:5000])
    text = shutil.copytree(good, folder / "text")
    (text / "det.onnx").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    hollow = shutil.copytree(good, folder / "hollow")
    (hollow / "det.onnx").write_bytes(b"")
    zeros = shutil.copytree(good, folder / "zeros")
    (zeros / "rec.onnx").write_bytes(bytes(200_000))
    blind = shutil.copytree(good, folder / "blind")
    (blind / "det.onnx").unlink()
    faceless = shutil.copytree(good, folder / "faceless")
    (faceless / "rec.onnx").unlink()
    shutil.copytree(good, folder / "nested" / "inner")
    shutil.copytree(good, folder / "zipped").joinpath("det.onnx").unlink()
    (folder / "zipped" / "rec.onnx").unlink()
    (folder / "zipped" / "gender.onnx").rename(folder / "zipped" / "pack.zip")
    make_pack(folder / "narrow", side=256, width=128)
    manifest = shutil.copytree(good, folder / "manifest")
    (manifest / "manifest.json").write_text('{"manifest_version": 2, "name": 3}', encoding="utf-8")
    (folder / "empty").mkdir()
    (folder / "file").write_bytes(b"")
    return {
        "missing": ['"missing" is missing', "models/insightface/models"],
        "buffalo_l": ['"buffalo_l" is missing'],  # a name that insightface would fetch
        "file": ['"file" is missing'],
        "empty": ['"empty" holds no .onnx'],
        "zipped": ['"zipped" holds no .onnx'],
        "nested": ['"nested"', "one folder deeper", '"inner"'],
        "cut": ['"cut"', '"rec.onnx"', "damaged"],
        "text": ['"text"', '"det.onnx"', "damaged"],
        "hollow": ['"hollow"', '"det.onnx"', "damaged"],
        "zeros": ['"zeros"', '"rec.onnx"', "damaged"],
        "blind": ['"blind"', "gender.onnx, rec.onnx"],
        "faceless": ['"faceless"', "recognition", "det.onnx"],
        "narrow": ['"narrow" gives 128', "512"],
    }


LOAD_ALL = """
import json, sys
tried = []
def watch(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.")) or event in ("subprocess.Popen", "os.system"):
        tried.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        tried.append(str(arguments[0]))
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "without":
    sys.modules["insightface"] = None
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import find_packs, get_analyser
from pathlib import Path
import lib_beyondfacial.faces.packs as packs
packs._import_onnxruntime()
if sys.argv[2] != "without":
    import insightface.app
sys.dont_write_bytecode = True
sys.addaudithook(watch)
sentences, folder = {}, Path(sys.argv[3])
for name in sys.argv[4:]:
    try:
        analyser = get_analyser(folder / name)
        sentences[name] = analyser.engine
    except BeyondFacialError as error:
        sentences[name] = str(error)
print(json.dumps({"sentences": sentences, "tried": tried, "packs": sorted(find_packs([folder]))}))
"""


@pytest.mark.parametrize("insightface", ["with", "without"])
def test_bad_packs_in_one_sentence_and_no_host_is_looked_up(insightface, make_pack, tmp_path):
    """In a process of its own that notes every socket, every download and every file opened for writing."""
    expected = bad_packs(tmp_path, make_pack)
    names = ["good", *expected, "manifest"]
    home = tmp_path / "home"
    home.mkdir()
    arguments = [sys.executable, "-c", LOAD_ALL, ROOT, insightface, tmp_path, *names]
    environment = {**os.environ, "HOME": str(home), "USERPROFILE": str(home)}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["tried"] == []
    assert list(home.iterdir()) == []  # where insightface keeps what it fetched
    message = report["sentences"]
    assert message.pop("good") == ("insightface" if insightface == "with" else "onnxruntime")
    assert message.pop("manifest") == "onnxruntime"  # insightface refuses a pack with a bad manifest
    for name, words in expected.items():
        sentence = message[name]
        assert all(word in sentence for word in words), sentence
        assert str(tmp_path) not in sentence
        assert "\n" not in sentence
        assert sentence.endswith(".")


def test_models_that_load_and_do_not_run(make_pack, tmp_path, draw_faces):
    pack = make_pack(tmp_path / "lame", side=256)
    other = make_pack(tmp_path / "other", side=256, width=512)
    (pack / "gender.onnx").write_bytes((other / "rec.onnx").read_bytes())  # a second recogniser is not used
    analyser = get_analyser(pack)
    assert not analyser.tells_gender
    analyser._engine.find = lambda *_: 1 / 0
    with pytest.raises(BeyondFacialError, match='The face pack "lame" fails when it is run'):
        analyser.find(draw_faces(1))
    analyser._engine.embed = lambda *_: 1 / 0
    with pytest.raises(BeyondFacialError, match='The face pack "lame" fails when it is run'):
        analyser.embed(draw_faces(1, size=224)[None])
    analysis.unload_analysers()


def test_neither_insightface_nor_onnxruntime(make_pack, tmp_path, monkeypatch):
    pack = make_pack(tmp_path / "good", side=256)
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BeyondFacialError, match="onnxruntime cannot be used here .*install.py"):
        get_analyser(pack)


def test_providers(make_pack, tmp_path):
    pack = make_pack(tmp_path / "good", side=256)
    analyser = get_analyser(pack, "cpu")
    assert analyser.provider == "CPUExecutionProvider"
    assert get_analyser(pack, "cpu") is analyser
    assert get_analyser(pack) is analyser  # whatever its spelling
    assert get_analyser(pack, "CPUExecutionProvider") is analyser
    with pytest.raises(
        BeyondFacialError, match='The face provider "tensorcore" is not part of .* choose one of .*cpu'
    ):
        get_analyser(pack, "tensorcore")
    analysis.unload_analysers()


def test_a_provider_that_onnxruntime_has_and_the_machine_has_not(make_pack, tmp_path, monkeypatch):
    """onnxruntime goes on with the CPU by itself then; the user asked for something else."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pack = make_pack(tmp_path / "good", side=256)
    have = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: have)
    assert packs.full_provider("cuda") == "CUDAExecutionProvider"
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(BeyondFacialError) as caught:
        get_analyser(pack, "cuda")
    assert str(caught.value) == 'The face provider "cuda" does not start on this machine; choose "cpu".'


def test_the_space_is_the_recognisers(make_pack, tmp_path):
    one = make_pack(tmp_path / "one", side=256)
    two = make_pack(tmp_path / "two")
    first, second = get_analyser(one).space, get_analyser(two).space
    assert first == f"one:{hash_file(one / 'rec.onnx')[:10]}"
    assert first.rpartition(":")[2] == second.rpartition(":")[2]  # another detector, the same embeddings
    analysis.unload_analysers()
