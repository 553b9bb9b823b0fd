"""Sixty odd weight files: each used or refused with a sentence that says what it is, in bounded time and memory."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

import pytest

from lib_beyondfacial.adapters import files, load_adapter_file
from lib_beyondfacial.adapters.places import weight_files
from lib_beyondfacial.adapters.registry import adapter_dirs, list_adapters
from lib_beyondfacial.errors import BeyondFacialError
from tests.adapters.odd_weights import CASES, saved, weights
from tests.alone import run_alone

SUM = 788.5  # of all numbers of the file that every good case holds
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """All cases in a process of its own, which must live."""
    output = run_alone("-m", "tests.adapters.odd_weights", tmp_path_factory.mktemp("odd"))
    lines = [json.loads(line) for line in output.splitlines()]
    print("slowest", max(lines, key=lambda each: each["seconds"]))
    print("largest", max(lines, key=lambda each: each["grown"]))
    return {each["name"]: each for each in lines}


@pytest.mark.parametrize("name", CASES)
def test_odd_weight_file(name, outcomes):
    want, found = CASES[name][1], outcomes[name]
    if want:
        assert want in found["sentence"]
        assert name.rpartition(".")[0] in found["sentence"]
        assert found["sentence"].endswith(".")
        assert found["peeked"] == found["sentence"]
    else:
        assert found.get("sentence", "") == found["peeked"] == ""
        assert found["sum"] == pytest.approx(SUM, rel=5e-3)
        dtype = name.partition(".")[0].removesuffix(" ")
        expected = {"fp16": "float16", "bf16": "bfloat16", "float8_e4m3fn": "float16", "float8_e5m2": "float16"}
        assert found["dtypes"] == [f"torch.{expected.get(dtype, 'float32')}"]
    assert found["seconds"] < 3
    assert found["grown"] < 100


def test_pipes_and_sockets_in_a_model_folder_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.bin")
    (tmp_path / "nowhere.bin").symlink_to(tmp_path / "gone")
    (tmp_path / "._mine.bin").write_bytes(b"a Mac's notes")
    (tmp_path / "mine.bin").write_bytes(saved({}))
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(tmp_path / "plug.bin"))
        assert list(weight_files(tmp_path, (".bin",))) == [tmp_path / "mine.bin"]
    sentences: list[str] = []

    def load() -> None:
        try:
            load_adapter_file(tmp_path / "pipe.bin")
        except BeyondFacialError as error:
            sentences.append(str(error))

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(5)
    assert len(sentences) == 1
    assert '"pipe.bin" is no' in sentences[0]


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "models" / "ipadapter"
    for place in (elsewhere, folder):
        place.mkdir(parents=True)
    (elsewhere / "far.bin").write_bytes(saved({}))
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (folder / "above").symlink_to(tmp_path / "models", target_is_directory=True)
    (elsewhere / "self").symlink_to(elsewhere, target_is_directory=True)
    assert list(weight_files(folder, (".bin",))) == [folder / "linked" / "far.bin"]
    whole = tmp_path / "models" / "instantid"
    whole.symlink_to(elsewhere, target_is_directory=True)
    assert whole in adapter_dirs(tmp_path / "models")


def test_where_the_controlnet_extension_keeps_its_models(tmp_path):
    folder = tmp_path / "extensions/sd-webui-controlnet/models"
    folder.mkdir(parents=True)
    for name in ("ip-adapter-faceid_sd15.pth", "control_v11p_sd15_canny.pth"):
        (folder / name).write_bytes(saved({}))
    assert list_adapters(adapter_dirs(tmp_path / "models")) == {
        "ip-adapter-faceid_sd15": folder / "ip-adapter-faceid_sd15.pth"
    }


OVERWRITTEN = """
import sys, torch
from pathlib import Path
from lib_beyondfacial.adapters.registry import get_adapter, list_adapters, unload_adapters
from lib_beyondfacial.errors import BeyondFacialError
from tests.adapters.odd_weights import CASES
folder = Path(sys.argv[1])
for name in ("fp32.safetensors", "fp32.bin"):
    path, data = folder / name, CASES[name][0]()
    for spoil in (lambda: path.write_bytes(bytes(len(data))), lambda: path.write_bytes(b""), path.unlink):
        path.write_bytes(data)
        listing = list_adapters([folder])
        adapter = get_adapter("fp32", listing)
        tensors = adapter.weights.ip_adapter
        before = sum(float(each.double().abs().sum()) for each in tensors.values())
        spoil()
        after = sum(float(each.double().abs().sum()) for each in tensors.values())
        assert before == after > 700, (before, after)
        assert not any(str(folder) in line for line in open("/proc/self/maps"))
        try:
            get_adapter("fp32", listing)
        except BeyondFacialError as error:
            print(error)
        unload_adapters()
    path.unlink(missing_ok=True)
"""


def test_a_file_that_is_overwritten_while_it_is_used(tmp_path):
    """A mapped file that is cut off ends the process; the numbers are our own, and the next request hears of it."""
    sentences = run_alone("-c", OVERWRITTEN, tmp_path).splitlines()
    assert len(sentences) == 6
    assert all(words in line for words, line in zip(["only zeros", "is empty", "is gone"] * 2, sentences, strict=True))


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path, real = tmp_path / "mine.bin", files._read
    path.write_bytes(saved(weights()))

    def read_slowly(*arguments):
        found = real(*arguments)
        path.write_bytes(saved({}))
        return found

    monkeypatch.setattr(files, "_read", read_slowly)
    with pytest.raises(BeyondFacialError, match='"mine.bin" was changed while it was read; try again'):
        load_adapter_file(path)
