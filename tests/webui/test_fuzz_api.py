"""Generated requests to the routes of our own, over HTTP to a server of its own process: none breaks or blocks it."""

from __future__ import annotations

import base64
import io
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_beyondfacial.webui import bodies
from tests.serving import serving
from tests.webui.served import ROOT, Server, heartbeat

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")

PATHS = [
    "version",
    "schema",
    "schema/faces",
    "schema/identities/export",
    "models",
    "faces",
    "identities",
    "identities/Anna",
    "identities?name=Anna",
    "identities/Anna/export?keep_crops=true",
]
ODD_PATHS = [
    "",
    "/",
    "identities/",
    "identities/%00",
    "identities/..%2f..",
    "identities/" + "a" * 3000,
    "schema/%ff",
    "x?" + "y" * 5000,
]
NAMES = ["Anna", "Berta", "", " ", "../x", "CON", "a" * 65, "x\x00", "\ud800", "é", "名前", "a/b", "\u202e"]
TYPES = ["application/json"] * 12 + [
    "application/json; charset=utf-16",
    "text/plain",
    "multipart/form-data",
    "",
    "\xff",
]
MB = 1_000_000
JSON = {"Content-Type": "application/json"}


def bmp(side):
    """A picture of 3 bytes a pixel as base64, which is large and decoded at once."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(side).integers(0, 255, (side, side, 3), np.uint8)).save(buffer, "BMP")
    return base64.b64encode(buffer.getvalue())


def filled(text, size):
    return text * (size // len(text))


# bodies of any size, by kind
LARGE = {
    "numbers": lambda size: b'{"references": [' + filled(b"0,", size) + b"0]}",
    "lists": lambda size: b'{"references": ' + filled(b"[", size),
    "pairs of lists": lambda size: b'{"references": [' + filled(b"[[]],", size) + b"0]}",
    "objects": lambda size: filled(b'{"":', size),
    "keys": lambda size: b"{" + filled(b'"name":"x",', size) + b'"name":"x"}',
    "strings": lambda size: b'{"references": [' + filled(b'"x",', size) + b'"x"]}',
    "one string": lambda size: b'{"name": "' + filled(b"A", size) + b'"}',
    "one name": lambda size: b'{"name": "' + filled("é".encode(), size) + b'"}',
    "escapes": lambda size: b'{"references": ["' + filled(rb"\n", size) + b'"]}',
    "letters escaped": lambda size: b'{"references": ["' + filled(rb"\u0041", size) + b'"]}',
    "quotes escaped": lambda size: b'{"references": ["' + filled(rb"\"", size) + b'"]}',
    "backslashes": lambda size: b'{"references": ["' + filled(rb"\\", size) + b'"]}',
    "spaces": lambda size: filled(b" ", size) + b"{}",
    "zeros": bytes,
    "digits": lambda size: b'{"face_index": ' + filled(b"9", size) + b"}",
    "no photos": lambda size: (
        b'{"references": [' + b",".join([b'"' + filled(b"QUJD", size // 16) + b'"'] * 16) + b"]}"
    ),
    "spaced base64": lambda size: (
        b'{"references": [' + b",".join([b'"' + filled(b"Q U J D ", size // 16) + b'"'] * 16) + b"]}"
    ),
    "photos": lambda size: (
        b'{"references": [' + b",".join([b'"' + bmp(int((size / 16 / 4) ** 0.5)) + b'"'] * 16) + b"]}"
    ),
}


class Requests:
    """Requests by the number of a seed."""

    def __init__(self, seed, photo):
        self.random, self.photo = random.Random(seed), photo

    def value(self, depth=0):
        pick = self.random
        plain = [
            None,
            True,
            0,
            -1,
            1e308,
            10**30,
            0.5,
            "",
            "x",
            "largest",
            "fits",
            self.photo,
            "/etc/passwd",
            pick.choice(NAMES),
        ]
        if depth > 3 or pick.random() < 0.7:
            return pick.choice(plain)
        if pick.random() < 0.5:
            return [self.value(depth + 1) for _ in range(pick.randrange(5))]
        return {pick.choice(NAMES): self.value(depth + 1) for _ in range(pick.randrange(5))}

    def fields(self):
        """An object near to one that is taken."""
        pick = self.random
        body = {"references": [self.photo] * pick.choice([0, 1, 1, 1, 2, 17]), "name": pick.choice(NAMES)}
        keys = [field.key for field in bodies.SAVE_FIELDS] + ["referenses", *NAMES]
        for _ in range(pick.randrange(4)):
            body[pick.choice(keys)] = self.value()
        return {key: body[key] for key in pick.sample(list(body), pick.randrange(len(body) + 1))}

    def body(self, largest):
        pick = self.random
        if pick.random() < 0.1:
            size = int(2000 * (largest / 2000) ** pick.random())
            return LARGE[pick.choice(list(LARGE))](size)
        text = json.dumps(self.fields() if pick.random() < 0.8 else self.value(), ensure_ascii=pick.random() < 0.5)
        body = bytearray(text.encode("utf-8", "surrogatepass"))
        if pick.random() < 0.3 and body:
            for _ in range(pick.randrange(1, 4)):
                body[pick.randrange(len(body))] = pick.randrange(256)
        return bytes(body[: pick.randrange(len(body) + 1)] if pick.random() < 0.1 else body)

    def next(self, largest):
        """Method, path, body, headers."""
        pick = self.random
        headers = {"Content-Type": pick.choice(TYPES)}
        if pick.random() < 0.1:
            headers["Authorization"] = pick.choice(["Basic", "Basic x", "Basic " + "A" * 5000, "Bearer y", "\xff"])
        method = pick.choice(["POST"] * 7 + ["DELETE", "GET", "PUT", "PATCH", "HEAD", "OPTIONS"])
        posted = pick.choice(["faces", "identities", "identities/export", "validate"])
        path = posted if method == "POST" and pick.random() < 0.9 else pick.choice(PATHS + ODD_PATHS)
        body = self.body(largest) if method in ("POST", "PUT", "PATCH", "DELETE") else None
        return method, f"{ROOT}/{path}", body, headers

    def all(self, count, largest, kinds):
        """`count` requests and the statuses that each may have; those of `kinds` have bodies just within the limit."""
        for kind in kinds:
            body = LARGE[kind](bodies.MAX_BODY - 1000)
            yield "POST", f"{ROOT}/faces", body, JSON, (200, 422)
        for _ in range(count - len(kinds)):
            yield *self.next(largest), range(200, 500)


@pytest.fixture(scope="module")
def server(models_dir, tmp_path_factory):
    flags = ["--models-dir", models_dir, "--beyondfacial-models-dir", tmp_path_factory.mktemp("identities")]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving("demo.miniwebui", log, *flags, OMP_NUM_THREADS="1") as served:
        yield Server(served)


def test_many_refused_bodies_at_once(server, photo):
    """14 bodies of 30 MB, each of ten million lists: no more is held than was sent, and all of it is given back."""
    warm_up(server, photo)
    before = server.memory()
    body = LARGE["pairs of lists"](30 * MB)
    with heartbeat(server) as beats, ThreadPoolExecutor(14) as pool:
        asked = [pool.submit(server.ask, "POST", f"{ROOT}/faces", body, JSON) for _ in range(14)]
        answers = [each.result() for each in asked]
    assert {status for status, _ in answers} == {422}
    check_beats(beats)
    assert server.memory(is_peak=True) < before + 14 * len(body) + 150 * MB
    assert server.memory() < before + 50 * MB


@pytest.mark.parametrize(
    ("count", "largest", "kinds"),
    [
        pytest.param(150, 20 * MB, ["numbers", "no photos"], id="short"),
        pytest.param(1500, bodies.MAX_BODY, list(LARGE), id="long", marks=pytest.mark.slow),
    ],
)
def test_generated_requests(server, photo, count, largest, kinds):
    requests = Requests(count, photo)
    warm_up(server, photo)
    before, slowest, statuses = server.memory(), (0.0, ""), set()
    with heartbeat(server) as beats:
        for method, path, body, headers, allowed in requests.all(count, largest, kinds):
            status, seconds = server.ask(method, path, body, headers)
            exchange = f"{method} {path[:60]} {(body or b'')[:60]!r} ({len(body or b'')} bytes): {status}"
            slowest = max(slowest, (seconds, exchange))
            statuses.add(status)
            assert status in allowed, f"{exchange}\n{server.tell()}"
    assert {200, 404, 422} <= statuses
    assert slowest[0] < 20, slowest  # a body of 225 MB: 2 s on a quiet machine
    check_beats(beats)
    assert server.memory() < before + 50 * MB


def warm_up(server, photo):
    """Everything is loaded before memory is compared."""
    for path, name in (("faces", {}), ("identities", {"name": "First"})):
        for _ in range(20):
            server.ask("POST", f"{ROOT}/{path}", json.dumps({"references": [photo], **name}).encode(), JSON)
    assert server.ask("POST", f"{ROOT}/faces", LARGE["photos"](20 * MB), JSON)[0] == 200, server.tell()


def check_beats(beats):
    assert {status for status, _ in beats} == {200}
    assert max(seconds for _, seconds in beats) < 2  # json.loads of such a body: 2.6 s and more
