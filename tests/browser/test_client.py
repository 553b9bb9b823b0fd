"""A published API client (webuiapi) that knows nothing of us."""

from __future__ import annotations

import base64
from urllib.parse import urlsplit

import pytest


@pytest.fixture(scope="module")
def client(server):
    webuiapi = pytest.importorskip("webuiapi")
    where = urlsplit(server)
    return webuiapi.WebUIApi(host=where.hostname, port=where.port, sampler="Euler", steps=4)


def ask(client, **settings):
    scripts = {"BeyondFacial": {"args": [settings]}}  # always a fresh one: the client's default is shared
    return client.txt2img(prompt="photo of a man", seed=3, width=128, height=128, alwayson_scripts=scripts)


def test_picture_mask_and_report(client, photo_file):
    photo = base64.b64encode(photo_file.read_bytes()).decode()
    answer = ask(client, enabled=True, references=[photo], show_mask=True)
    assert [image.size for image in answer.images] == [(128, 128)] * 2
    (report,) = answer.info["extra_generation_params"]["BeyondFacial report"]
    assert set(report) - {"note"} == {"similarity", "face_area", "mask_coverage"}


def test_a_bad_request_carries_the_sentence(client):
    with pytest.raises(RuntimeError, match="422.*references.* is empty; give at least one photo"):
        ask(client, enabled=True, references=[])
