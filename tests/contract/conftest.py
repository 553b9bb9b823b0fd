"""One suite of seam cases for every host: the miniature one as a process of its own, or a live one at WEBUI_URL.

A live host needs the extension installed, and a checkpoint, an adapter and a face pack that fit each other;
WEBUI_PHOTO names a photo in which the pack finds a face (default: a drawn person, for the Dollhouse weights).
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.browser.conftest import models_dir, photo_file, server

__all__ = ["models_dir", "photo_file", "server"]


class Client:
    """Plain HTTP; `post` gives (status, body) whatever the status."""

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str):
        with self.opener.open(self.address + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict) -> tuple[int, dict]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), headers)
        try:
            with self.opener.open(request, timeout=600) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")


@pytest.fixture(scope="session")
def client(request) -> Client:
    live = os.environ.get("WEBUI_URL")
    return Client(live or request.getfixturevalue("server"))


@pytest.fixture(scope="session")
def reference(request) -> str:
    given = os.environ.get("WEBUI_PHOTO")
    path = Path(given) if given else request.getfixturevalue("photo_file")
    return base64.b64encode(path.read_bytes()).decode()
