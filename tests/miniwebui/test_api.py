"""The HTTP API and the page, as their clients see them."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from demo.miniwebui.host import boot
from tests.miniwebui.conftest import REQUEST


@pytest.fixture
def client(host: Any, probe: Any) -> TestClient:
    return TestClient(host.app, raise_server_exceptions=False)


def post(client: TestClient, **changes: Any) -> Any:
    return client.post("/sdapi/v1/txt2img", json=REQUEST | changes)


def test_txt2img_gives_png_with_infotext_and_info(client: TestClient, generate: Any) -> None:
    reply = post(client, batch_size=2).json()
    images = [Image.open(io.BytesIO(base64.b64decode(image))) for image in reply["images"]]
    assert [image.size for image in images] == [(64, 64)] * 2
    assert [image.tobytes() for image in images] == generate(batch_size=2)
    info = json.loads(reply["info"])
    assert images[1].info["parameters"] == info["infotexts"][1]
    assert (info["seed"], info["all_seeds"], info["sampler_name"]) == (7, [7, 8], "Euler")
    assert reply["parameters"]["steps"] == 3
    assert post(client, send_images=False).json()["images"] == []


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (None, (False, 1.5, "a")),
        ({"the PROBE": {"args": [True]}}, (True, 1.5, "a")),
        ({"The Probe": {"args": [1, 2, 3, 4, 5]}}, (1, 2, 3)),
        ({"The Probe": {"args": [{"any": ["thing"]}]}}, ({"any": ["thing"]}, 1.5, "a")),
        ({"The Probe": {}}, (False, 1.5, "a")),
    ],
)
def test_script_arguments(client: TestClient, probe: Any, given: Any, want: tuple) -> None:
    assert post(client, alwayson_scripts=given).status_code == 200
    args, _ = probe.records["process"][0]
    assert args[1:] == want


def test_unknown_script_and_sampler(client: TestClient) -> None:
    reply = post(client, alwayson_scripts={"Nobody": {"args": []}})
    assert (reply.status_code, reply.json()["detail"]) == (422, "Script 'Nobody' not found")
    assert post(client, sampler_name="Magic").status_code == 400
    assert post(client, steps="many").status_code == 422


@pytest.mark.parametrize("http", [False, True])
def test_error_from_sample(client: TestClient, probe: Any, http: bool) -> None:
    from fastapi import HTTPException

    def replace(p: Any, *_args: Any) -> None:
        def sample(**_kwargs: Any) -> None:
            raise HTTPException(422, "no such face") if http else ValueError("no such face")

        p.sample = sample

    probe.act["process"] = replace
    reply = post(client)
    assert reply.status_code == (422 if http else 500)
    assert reply.json()["detail" if http else "errors"] == "no such face"
    probe.act.clear()
    assert post(client).status_code == 200
    assert client.get("/sdapi/v1/progress").json()["progress"] == 0


def test_lists(client: TestClient) -> None:
    names = {"Euler a", "Euler", "DPM++ 2M", "DPM++ SDE", "LCM", "DDIM"}
    assert {s["name"] for s in client.get("/sdapi/v1/samplers").json()} == names
    (model,) = client.get("/sdapi/v1/sd-models").json()
    assert model["model_name"] == "random"
    assert model["title"].startswith("random.safetensors [")
    assert client.get("/sdapi/v1/scripts").json() == {"txt2img": ["the probe"], "img2img": ["the probe"]}
    script, _ = client.get("/sdapi/v1/script-info").json()
    assert (script["name"], script["is_alwayson"], script["is_img2img"]) == ("the probe", True, False)
    assert [arg["label"] for arg in script["args"]] == ["On", "How much", "Which"]
    assert (script["args"][1]["minimum"], script["args"][1]["maximum"], script["args"][1]["value"]) == (0, 3, 1.5)
    assert script["args"][2]["choices"] == ["a", "b"]


def test_options_can_be_set(client: TestClient) -> None:
    assert client.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 1
    assert client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2}).status_code == 200
    assert client.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 2
    client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1})


def test_progress_and_interrupt(client: TestClient, probe: Any) -> None:
    probe.act["cfg_denoised"] = lambda params: time.sleep(0.02)
    replies: list[Any] = []
    worker = threading.Thread(target=lambda: replies.append(post(client, steps=150)))
    worker.start()
    deadline = time.monotonic() + 60
    while (progress := client.get("/sdapi/v1/progress").json())["state"][
        "sampling_step"
    ] < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert 0 < progress["progress"] < 1
    assert progress["state"]["sampling_steps"] == 150
    assert client.post("/sdapi/v1/interrupt").status_code == 200
    worker.join(60)
    assert replies[0].status_code == 200
    assert probe.log.count("cfg_denoiser") < 150


def test_password_guards_the_hosts_routes_only(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    source = (
        "from modules import script_callbacks\n"
        "def add(demo, app):\n"
        "    app.add_api_route('/open', lambda: 'open')\n"
        "script_callbacks.on_app_started(add)\n"
    )
    (tmp_path / "scripts" / "routes.py").write_text(source, encoding="utf-8")
    host = boot(models_dir, [tmp_path], page=True, argv=["--api-auth", "me:secret"])
    client = TestClient(host.app)
    assert client.get("/sdapi/v1/samplers").status_code == 401
    assert client.get("/sdapi/v1/samplers", auth=("me", "wrong")).status_code == 401
    assert client.get("/sdapi/v1/samplers", auth=("me", "secret")).status_code == 200
    assert client.get("/open").json() == "open"


def test_page_and_its_javascript(models_dir: Path, probe_extension: Path, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "probe.py").write_text(
        (probe_extension / "scripts/probe.py").read_text(), encoding="utf-8"
    )
    (tmp_path / "javascript").mkdir()
    (tmp_path / "javascript" / "mine.js").write_text("const mineIsHere = 1;", encoding="utf-8")
    host = boot(models_dir, [tmp_path], page=True)
    client = TestClient(host.app)
    page = client.get("/").text
    assert "mineIsHere" in page
    assert "function onUiLoaded" in page
    labels = {c["props"].get("label") for c in client.get("/config").json()["components"]}
    assert {"Prompt", "Negative prompt", "Sampling method", "Width", "CFG Scale", "Seed", "How much"} <= labels


def test_page_shows_the_error_under_the_picture(host: Any, models_dir: Path, probe_extension: Path) -> None:
    from demo.miniwebui.page import generate

    boot(models_dir, [probe_extension])
    from modules import scripts

    values = ("a photo", "", "Euler", 2, 64, 64, 7.0, 3, 2, 0, False, 1.5, "a")
    images, text = generate(*values)
    assert [image.size for image in images] == [(64, 64)] * 2
    assert "Seed: 3" in text

    def replace(p: Any, *_args: Any) -> None:
        def sample(**_kwargs: Any) -> None:
            raise ValueError("no <face> here")

        p.sample = sample

    scripts.scripts_data[0].module.act["process"] = replace
    assert generate(*values) == ([], "<div class='error'>ValueError: no &lt;face&gt; here</div>")


def test_booting_again_forgets_the_extension(models_dir: Path, probe_extension: Path) -> None:
    from modules import script_callbacks, scripts, shared

    boot(models_dir, [probe_extension])
    shared.opts.CLIP_stop_at_last_layers = 2
    module = scripts.scripts_data[0].module
    plain = boot(models_dir)
    assert plain.txt2img(**REQUEST)[0]
    assert module.log == []
    assert not any(script_callbacks.callback_map.values())
    assert shared.opts.CLIP_stop_at_last_layers == 1


def test_a_broken_script_does_not_stop_the_host(
    models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "broken.py").write_text("raise RuntimeError('broken at load')", encoding="utf-8")
    host = boot(models_dir, [tmp_path])
    assert len(host.txt2img(**REQUEST)[0]) == 1
    assert "broken at load" in capsys.readouterr().err
