"""Adapter, pack and identity files that others write while requests run: 200 or a sentence, and the process lives."""

from __future__ import annotations

import itertools
import json
import threading

import pytest
from fastapi.testclient import TestClient

from demo.miniwebui import shared
from lib_beyondfacial.adapters import registry
from lib_beyondfacial.faces import analysis
from tests.faces.conftest import save_pack
from tests.random_adapter import write_faceid_adapter

RUN = {"prompt": "photo of a man", "seed": 7, "steps": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
PLACES = {
    "adapter": "ipadapter/mine.safetensors",
    "recogniser": "insightface/models/own/rec.onnx",
    "identity": "beyondfacial/identities/Anna.safetensors",
}


@pytest.fixture
def ask(host, photo, tmp_path, monkeypatch):
    """ask() -> (status, the sentence or ""), of a run with an adapter, a pack and a saved identity of its own."""
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    write_faceid_adapter(tmp_path / "ipadapter/mine.safetensors", seed=5)
    save_pack(tmp_path / "insightface/models/own", side=256)
    client = TestClient(host.app)
    body = {"name": "Anna", "references": [photo], "face_pack": "own"}
    assert client.post("/beyondfacial/v1/identities", json=body).status_code == 200

    def post():
        unit = {"identity": "Anna", "adapter": "mine", "face_pack": "own", "refine_head": False}
        request = {**RUN, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}}
        answer = client.post("/sdapi/v1/txt2img", json=request)
        return answer.status_code, "" if answer.status_code == 200 else json.dumps(answer.json()["detail"])

    yield post
    registry.unload_adapters()
    analysis.unload_analysers()


@pytest.mark.parametrize("what", PLACES)
def test_files_change_while_requests_run(what, ask, tmp_path):
    path, stop = tmp_path / PLACES[what], threading.Event()
    good = path.read_bytes()

    def spoil() -> None:
        for turn in itertools.cycle(range(4)):
            if stop.wait(0.05):
                return
            if turn == 0:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes((bytes(len(good)), good[: len(good) // 2], good)[turn - 1])

    assert ask() == (200, "")
    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        answers = [ask() for _ in range(8)]
    finally:
        stop.set()
        thread.join()
    print(sorted({status for status, _ in answers}))
    for status, sentence in answers:
        assert status in (200, 404, 422)
        assert "internal error" not in sentence
        assert str(tmp_path) not in sentence
        assert status == 200 or sentence.startswith('"BeyondFacial: ')
    path.write_bytes(good)
    assert ask() == (200, "")


@pytest.mark.parametrize("what", PLACES)
def test_each_state_of_a_file_has_its_answer(what, ask, tmp_path):
    path = tmp_path / PLACES[what]
    good = path.read_bytes()
    for content in (None, b"", good[: len(good) // 2], bytes(len(good))):
        assert ask() == (200, "")
        path.unlink() if content is None else path.write_bytes(content)
        status, sentence = ask()
        assert status == 422, sentence
        assert "internal error" not in sentence
        assert str(tmp_path) not in sentence
        path.write_bytes(good)
