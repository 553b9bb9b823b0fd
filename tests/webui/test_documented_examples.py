"""The Python programs of docs/api.md, run as they stand against the miniature host behind a port."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from tests.api_table import DOCUMENT
from tests.faces.conftest import draw
from tests.serving import serving
from tests.webui.served import Server

PROGRAMS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def server(models_dir, tmp_path_factory):
    flags = ["--models-dir", models_dir, "--beyondfacial-models-dir", tmp_path_factory.mktemp("identities")]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving("demo.miniwebui", log, *flags, OMP_NUM_THREADS="1") as served:
        yield Server(served)


@pytest.fixture
def run(server, tmp_path):
    for n in (1, 2):
        Image.fromarray(draw(1, noise=n)).save(tmp_path / f"anna_{n}.jpg")

    def run(program):
        """What it prints. The models folder of the tests has several adapters, so one is named; sizes are small."""
        program = program.replace("7860", str(server.port)).replace(
            '"references": [', '"adapter": "fits", "references": ['
        )
        for given, small in (
            ("steps=20,", "steps=2, width=64, height=64,"),
            ('"steps": 20,', '"steps": 2, "width": 64, "height": 64,'),
        ):
            program = program.replace(given, small)
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=os.environ | {"NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{server.tell()}"
        return done.stdout

    return run


def test_there_are_two_programs():
    assert ["requests" in PROGRAMS[0], "webuiapi" in PROGRAMS[1], len(PROGRAMS)] == [True, True, 2]


@pytest.mark.skipif(importlib.util.find_spec("requests") is None, reason="needs requests")
def test_with_requests(run, tmp_path):
    printed = run(PROGRAMS[0])
    assert "picture 0: similarity" in printed
    assert "picture 1: similarity" in printed
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "mask_2.png",
        "mask_3.png",
        "picture_0.png",
        "picture_1.png",
    ]


@pytest.mark.skipif(importlib.util.find_spec("webuiapi") is None, reason="needs webuiapi")
def test_with_webuiapi(run, tmp_path):
    assert "similarity" in run(PROGRAMS[1])
    assert (tmp_path / "picture.png").is_file()
