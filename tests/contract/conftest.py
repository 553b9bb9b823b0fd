"""One suite of seam cases for every host: the miniature one and the Forge-shaped double as processes of their own, or
a live host at WEBUI_URL.

A live host needs the extension installed, and a checkpoint, an adapter and a face pack that fit each other:
    WEBUI_PHOTO            a photo in which the pack finds a face (default: a drawn person, for the Dollhouse weights)
    WEBUI_ADAPTER          the adapter's name, where there are several
    WEBUI_BROKEN_ADAPTER   one whose attention overflows (`python -m tests.contract.broken_adapter GOOD BROKEN`)
    WEBUI_SIZE, WEBUI_STEPS    of the pictures, for a slow host (default 128 and 6)
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.conftest import models_dir, photo_file
from tests.contract.broken_adapter import write_broken_adapter
from tests.serving import serving

__all__ = ["models_dir", "photo_file"]

LIVE = os.environ.get("WEBUI_URL")
DOUBLES = {"miniwebui": "demo.miniwebui", "forge": "tests.forge_double"}
ADAPTER, BROKEN = "fits", "overflows"


@dataclass(frozen=True)
class Client:
    """Plain HTTP; `post` gives (status, body) whatever the status."""

    address: str
    adapter: str
    broken_adapter: str
    opener: urllib.request.OpenerDirector

    def get(self, path: str, default=None):
        """The answer; `default`, where one is given, of a host that has no such route."""
        try:
            with self.opener.open(self.address + path, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404 and default is not None:  # noqa: PLR2004
                return default
            raise

    def post(self, path: str, body: dict) -> tuple[int, dict]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)
        try:
            with self.opener.open(request, timeout=1800) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def interrupted(self, body: dict) -> tuple[int, dict]:
        """txt2img, interrupted while its sampling is under way."""
        answers: list[tuple[int, dict]] = []
        asking = threading.Thread(target=lambda: answers.append(self.post("/sdapi/v1/txt2img", body)))
        asking.start()
        until = time.monotonic() + 600
        while asking.is_alive() and time.monotonic() < until:
            state = self.get("/sdapi/v1/progress?skip_current_image=true")["state"]
            if state["sampling_steps"] and state["sampling_step"] >= 1 and state["job_count"]:
                self.post("/sdapi/v1/interrupt", {})
            time.sleep(0.05)
        asking.join()
        return answers[0]


def client_of(address: str, adapter: str, broken: str) -> Client:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return Client(address.rstrip("/"), adapter, broken, opener)


@pytest.fixture(scope="session", params=["live"] if LIVE else list(DOUBLES))
def client(request, tmp_path_factory) -> Iterator[Client]:
    if LIVE:
        yield client_of(LIVE, os.environ.get("WEBUI_ADAPTER", ""), os.environ.get("WEBUI_BROKEN_ADAPTER", ""))
        return
    folder = models_with_adapters(request.getfixturevalue("models_dir"), tmp_path_factory.mktemp("models"))
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving(DOUBLES[request.param], log, "--models-dir", folder) as served:
        yield client_of(served.address, ADAPTER, BROKEN)


def models_with_adapters(models: Path, folder: Path) -> Path:
    """The models as they are, but with one good adapter and one that overflows."""
    for entry in models.iterdir():
        if entry.name != "ipadapter":
            (folder / entry.name).symlink_to(entry.resolve())
    good = next(path for path in sorted((models / "ipadapter").glob("*.safetensors")))
    (folder / "ipadapter").mkdir()
    (folder / f"ipadapter/{ADAPTER}.safetensors").symlink_to(good.resolve())
    write_broken_adapter(good, folder / f"ipadapter/{BROKEN}.safetensors")
    return folder


@pytest.fixture(scope="session")
def reference(request) -> str:
    given = os.environ.get("WEBUI_PHOTO")
    path = Path(given) if given else request.getfixturevalue("photo_file")
    return base64.b64encode(path.read_bytes()).decode()
