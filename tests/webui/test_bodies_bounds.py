"""Bodies up to the limit: bounded before they are parsed, parsed without holding others up, and gone when refused."""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from demo.miniwebui import shared
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.webui import api, bodies, bounded_json

MB = 1_000_000
JSON_HEADER = {"Content-Type": "application/json"}
PHOTO = base64.b64encode(bytes(range(256)) * 40_000)  # 10 MB of bytes
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
LONG = st.integers(4090, 4110).map(lambda size: "QUJD" * (size // 4) + "A" * (size % 4))


def parse(body):
    return bounded_json.parse_json(bytearray(body))


def sentence_of(body):
    """The sentence, and the seconds of this thread that it took."""
    body = bytearray(body)
    begin = time.thread_time()
    with pytest.raises(BeyondFacialError) as caught:
        bodies.parse_body(body, bodies.CHECK_FIELDS)
    assert not body
    return str(caught.value), time.thread_time() - begin


@given(st.lists(ANY_JSON | LONG | st.text(alphabet='\\"/n,{}[]: A', max_size=40), max_size=6), st.booleans())
def test_small_values_are_read_as_json_reads_them(values, is_ascii):
    body = json.dumps(values, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    if bounded_json_depth(values) <= bounded_json.MAX_DEPTH:
        assert parse(body) == json.loads(body)


def bounded_json_depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(bounded_json_depth, inner), default=0)


@given(st.binary(max_size=60) | st.text(alphabet='"\\A{[]},:1#', max_size=60).map(str.encode), st.integers(0, 3))
def test_nothing_else_becomes_json(noise, at):
    """Long texts anywhere in what is no JSON: still no JSON."""
    body = noise[:at] + PHOTO[:5000] + noise[at:]
    try:
        wanted = json.loads(body)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  whatever json raises
            parse(body)
    else:
        assert parse(body) == wanted


@pytest.mark.parametrize(
    "text",
    [
        PHOTO.decode(),
        "data:image/png;base64," + PHOTO.decode(),
        "\n".join(PHOTO[at : at + 76].decode() for at in range(0, 400_000, 76)),
        "QUJD" * 1024 + "QQ==",
    ],
    ids=["base64", "data: URL", "in lines", "short"],
)
@pytest.mark.parametrize("is_php", [False, True])
def test_photos_come_through(text, is_php):
    body = json.dumps({"references": [text, "QUJD", text], "adapter": "fits"})
    body = body.replace("/", r"\/") if is_php else body
    got = bodies.parse_body(body.encode(), bodies.CHECK_FIELDS)
    assert got["adapter"] == "fits"
    assert [base64.b64decode(each.partition("base64,")[2] or each) for each in got["references"]] == [
        base64.b64decode(each.partition("base64,")[2] or each) for each in (text, "QUJD", text)
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [(key, f'"{key}" is') for key in ("face_pack", "adapter", "face_choice", "face_index")]
    + [(PHOTO[:5000].decode(), "is not known here")],
    ids=["face_pack", "adapter", "face_choice", "face_index", "a key"],
)
def test_only_photos_may_be_long(key, expected):
    with pytest.raises(BeyondFacialError, match=expected) as caught:
        bodies.parse_body(json.dumps({key: PHOTO.decode()}).encode(), bodies.CHECK_FIELDS)
    assert len(str(caught.value)) < 500


def repeated(text, size=bodies.MAX_BODY):
    return text * (size // len(text))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda: b'{"references": [' + repeated(b"0,"), "longer than the largest photo"),
        (lambda: b'{"references": ["' + repeated(b"A") + b'"]}', "longer than the largest photo"),
        (lambda: b'{"references": ["' + repeated(rb"\n") + b'"]}', "longer than the largest photo"),
        (lambda: b'{"references": ["' + repeated(b"A", 15 * MB) + "é".encode() + b'"]}', "over 250 kB beside photos"),
        (lambda: b'{"references": ["' + repeated(b"\\", 15 * MB) + b'"]}', "over 250 kB beside photos"),
        (lambda: repeated(b'"'), "more than 20000 values"),
        (lambda: b'"' + repeated(rb"\"") + b'"', "more than 20000 values"),
        (lambda: repeated(b'{"":'), "more than 20000 values"),
        (lambda: repeated(b'"a",'), "more than 20000 values"),
        (lambda: b"[" + repeated(b"0,", 100_000) + b"0]", "more than 20000 values"),
        (lambda: b"[" + repeated(b"[],", 100_000) + b"0]", "more than 20000 values"),
        (lambda: b"[" + repeated(b"{},", 100_000) + b"0]", "more than 20000 values"),
        (lambda: b'"' + rb"\"" * 39_000, "no JSON that can be read; "),
        (lambda: b"[" * 200_000, "nested more than 8 deep"),
        (lambda: b'{"a":' * 9 + b"0" + b"}" * 9, "nested more than 8 deep"),
        (lambda: b'{"face_index": ' + b"9" * 200_000 + b"}", '"face_index" is inf'),
        (lambda: repeated(b" "), "longer than the largest photo"),
    ],
)
def test_what_is_too_much_is_refused_at_once(body, expected):
    sentence, seconds = sentence_of(body())
    assert expected in sentence
    assert seconds < 3  # 0.2 s; json.loads takes 2.6 s for a body of photos, 10 s for one of numbers


def test_a_refusal_builds_nothing():
    body = b'{"references": [' + repeated(b'[["x"]],', 30 * MB)
    tracemalloc.start()
    try:
        sentence_of(body)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)  # the copy that is handed over, and next to nothing
    finally:
        tracemalloc.stop()


def test_the_largest_body_is_parsed_within_its_own_size():
    """As much memory again as the body has, and not three times it; in a process of its own, whose peak it is."""
    code = """
import resource, sys
from demo.miniwebui import host; host.install_import_names()
from lib_beyondfacial.webui import bodies
body = bytearray(b'{"references": [' + b",".join([b'"' + b"QUJD" * 3_490_000 + b'"'] * 16) + b"]}")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
values = bodies.parse_body(body, bodies.CHECK_FIELDS)
assert [len(each) for each in values["references"]] == [4 * 3_490_000] * 16
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    command = [sys.executable, "-c", code]
    before, after = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:])
    unit = 1 if sys.platform == "darwin" else 1024
    assert (after - before) * unit < 1.2 * bodies.MAX_BODY


def test_others_are_not_held_up_by_parsing():
    """The interpreter's lock is let go: another thread keeps running while the largest body is parsed."""
    body = bytearray(b'{"references": [' + b",".join([b'"' + b"QUJD" * 3_490_000 + b'"'] * 16) + b"]}")
    gaps, is_done = [], threading.Event()

    def watch():
        last = time.perf_counter()
        while not is_done.is_set():
            time.sleep(0.005)
            gaps.append(time.perf_counter() - last)
            last = time.perf_counter()

    watcher = threading.Thread(target=watch)
    watcher.start()
    bodies.parse_body(body, bodies.CHECK_FIELDS)
    is_done.set()
    watcher.join()
    assert max(gaps) < 2  # 0.1 s; json.loads: 2.6 s


class Counted:
    """A stand-in for what a request holds, counted."""

    count = 0

    def __init__(self):
        Counted.count += 1

    def __del__(self):
        Counted.count -= 1


def test_nothing_of_a_refused_request_stays(monkeypatch):
    """Not even in a reference cycle, until a garbage collection comes round."""

    @api.answering
    async def refuse():
        photos = Counted()

        def work():
            decoded = Counted()
            try:
                raise KeyError(len([decoded, photos]))
            except KeyError as error:
                kept = error  # noqa: F841  a cycle of frame and error, as threads and pools make them
                raise BeyondFacialError("No.") from error

        return await api.in_face_thread(work)

    async def ask():
        with pytest.raises(HTTPException) as caught:
            await refuse()
        return caught.value

    gc.collect()
    gc.disable()
    try:
        with ThreadPoolExecutor(1) as pool:
            error = pool.submit(asyncio.run, ask()).result()
        assert (error.status_code, error.detail) == (422, "No.")
        assert error.__cause__ is error.__context__ is None
        deadline = time.monotonic() + 10
        while Counted.count and time.monotonic() < deadline:  # the thread is just letting go of its work
            time.sleep(0.01)
        assert Counted.count == 0
    finally:
        gc.enable()


@pytest.fixture
def client(monkeypatch, tmp_path):
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace(beyondfacial_models_dir=str(tmp_path)))
    api.mount(None, app := FastAPI())
    return TestClient(app)


def test_refused_bodies_leave_no_memory(client):
    """30 MB of lists in lists, time after time, without a garbage collection."""
    body = b'{"references": [' + repeated(b'[["x"]],', 30 * MB) + b"0]}"
    client.post("/beyondfacial/v1/faces", content=body, headers=JSON_HEADER)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(3):
            assert client.post("/beyondfacial/v1/faces", content=body, headers=JSON_HEADER).status_code == 422
        assert tracemalloc.get_traced_memory()[0] < 10 * MB
    finally:
        tracemalloc.stop()
        gc.enable()


def test_bodies_held_together_are_bounded(client, monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BODIES", 3 * MB)
    others = bodies.Body(2 * MB)
    bodies._bodies[id(others)] = others
    sent = {"content": b'{"references": ["' + b"QUJD" * 300_000 + b'"]}', "headers": JSON_HEADER}
    refused = client.post("/beyondfacial/v1/faces", **sent)
    assert refused.status_code == 429
    assert "try again" in refused.json()["detail"]
    others.clear()  # parsed
    assert client.post("/beyondfacial/v1/faces", **sent).status_code == 422
    assert not [body for body in bodies._bodies.values() if body]


def test_waiting_photos_leave_the_hosts_threads_alone(client, monkeypatch):
    """60 face checks, more than the host has threads: two at a time, and other requests are answered meanwhile."""
    gate, running, most = threading.Event(), [], []

    def check(_):
        running.append(1)
        most.append(len(running))
        gate.wait(60)
        running.pop()
        return {}

    monkeypatch.setattr(api.face_check, "check_request", check)
    with client, ThreadPoolExecutor(60) as pool:
        checks = [pool.submit(client.post, "/beyondfacial/v1/faces", json={"references": []}) for _ in range(60)]
        deadline = time.monotonic() + 30
        while not running and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            begin = time.monotonic()
            assert client.get("/beyondfacial/v1/schema").status_code == 200
            assert client.get("/beyondfacial/v1/identities").status_code == 200, "on one of the host's threads"
            assert time.monotonic() - begin < 20
        finally:
            gate.set()
        assert {each.result(60).status_code for each in checks} == {200}
    assert max(most) <= 2
