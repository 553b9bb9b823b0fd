"""Which face pack serves, where identities lie, and what the flags say."""

from __future__ import annotations

import argparse

import pytest

import preload
from demo.miniwebui import basics, shared
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.webui import folders


@pytest.fixture
def packs(tmp_path, monkeypatch):
    """Makes face packs of these names, the only ones there."""
    monkeypatch.setattr(basics, "models_path", str(tmp_path))
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace())

    def make(*names):
        for name in names:
            folder = tmp_path / "insightface/models" / name
            folder.mkdir(parents=True)
            (folder / "det.onnx").write_bytes(b"")

    return make


@pytest.mark.parametrize(
    ("there", "named", "wanted", "chosen"),
    [
        (["buffalo_l", "antelopev2", "mine"], "", "antelopev2", "antelopev2"),
        (["buffalo_l", "antelopev2", "mine"], "", "buffalo_l", "buffalo_l"),
        (["buffalo_l", "antelopev2", "mine"], "antelopev2", "buffalo_l", "antelopev2"),  # the user insists
        (["buffalo_l", "antelopev2"], "", "", "buffalo_l"),
        (["antelopev2", "mine"], "", "buffalo_l", "mine"),
        (["buffalo_m"], "", "buffalo_l", "buffalo_m"),  # the same recogniser
        (["buffalo_s", "dollhouse", "judge"], "", "buffalo_l", "dollhouse"),
        (["mine"], "", "", "mine"),
    ],
)
def test_the_adapters_own_pack_or_one_that_may_serve(packs, there, named, wanted, chosen):
    packs(*there)
    assert folders.choose_pack(named, wanted).name == chosen


@pytest.mark.parametrize(
    ("there", "named", "wanted", "expected"),
    [
        (["antelopev2"], "", "buffalo_l", 'made with the face pack "buffalo_l", which is not there .*"antelopev2"'),
        (["buffalo_l", "buffalo_s"], "", "antelopev2", 'made with the face pack "antelopev2"'),
        (["a", "b"], "", "buffalo_l", 'several face packs.*"a", "b"'),
        (["a", "b", "antelopev2"], "", "buffalo_l", 'set "face_pack" to one of "a", "b"[.]'),
        (["a", "b"], "x", "", '"face_pack" is "x".*"a", "b"'),
        ([], "", "antelopev2", 'such as "antelopev2" into'),
        ([], "x", "", 'such as "buffalo_l" into'),
    ],
)
def test_what_cannot_serve_is_said(packs, there, named, wanted, expected):
    packs(*there)
    with pytest.raises(BeyondFacialError, match=expected):
        folders.choose_pack(named, wanted)


def parse(*flags):
    parser = argparse.ArgumentParser()
    preload.preload(parser)
    return parser.parse_args(flags)


def test_identities_are_in_the_first_models_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(tmp_path / "host"))
    monkeypatch.setattr(shared, "cmd_opts", parse())
    assert folders.identities_dir() == (tmp_path / "host/beyondfacial/identities").resolve()
    monkeypatch.setattr(shared, "cmd_opts", parse("--beyondfacial-models-dir", str(tmp_path / "own")))
    assert folders.identities_dir() == (tmp_path / "own/beyondfacial/identities").resolve()
    assert not (tmp_path / "own").exists()


def test_the_face_provider_is_one_that_onnxruntime_knows_by_name(monkeypatch):
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace())
    assert folders.face_provider() == "CPUExecutionProvider"
    for name, known in folders.PROVIDERS.items():
        monkeypatch.setattr(shared, "cmd_opts", parse("--beyondfacial-face-provider", name))
        assert folders.face_provider() == known
    with pytest.raises(SystemExit):
        parse("--beyondfacial-face-provider", "toaster")


def put(folder, file, size):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / file).open("wb") as stream:
        stream.truncate(size)  # sparse


def test_a_folders_name_does_not_say_what_is_in_it(packs, tmp_path):
    """buffalo_l's files in a folder "antelopev2": its embeddings mean nothing to an adapter made with antelopev2."""
    packs()
    put(tmp_path / "insightface/models/antelopev2", "w600k_r50.onnx", 174_383_860)
    with pytest.raises(BeyondFacialError, match='found: "antelopev2", which holds the files of buffalo_l'):
        folders.choose_pack("", "antelopev2")
    chosen = folders.choose_pack("", "buffalo_l")
    assert chosen.name == "antelopev2"
    assert chosen.fits("buffalo_l")
    assert not folders.choose_pack("antelopev2", "antelopev2").fits("antelopev2")
    put(tmp_path / "insightface/models/mine", "rec.onnx", 260_665_334)
    assert folders.choose_pack("", "antelopev2").name == "mine"


def test_other_folders_of_hosts_and_nested_ones_keep_their_names(packs, tmp_path):
    packs()
    put(tmp_path / "ControlNetPreprocessor/insightface/models/antelopev2/antelopev2-main", "rec.onnx", 1)
    chosen = folders.choose_pack("", "antelopev2")
    assert (chosen.name, chosen.folder.name) == ("antelopev2", "antelopev2-main")
