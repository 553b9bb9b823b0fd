"""Who gets which answer: logins of API and page, flags that let others reach the web UI, requests at the same time."""

from __future__ import annotations

import argparse
import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from demo.miniwebui import shared
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import photos
from lib_beyondfacial.webui import api

IDENTITIES = f"{api.ROOT}/identities"
# method, path, then the status for a visitor who may ask: where changes are on, and where they are off; bodies are {}
ROUTES = [
    ("GET", "version", 200, 200),
    ("GET", "schema", 200, 200),
    ("GET", "schema/faces", 200, 200),
    ("GET", "models", 200, 200),
    ("POST", "faces", 422, 422),
    ("POST", "validate", 200, 200),
    ("POST", "identities/export", 422, 422),
    ("GET", "identities/Anna/export", 404, 403),
    ("GET", "identities", 200, 200),
    ("POST", "identities", 422, 403),
    ("DELETE", "identities?name=Anna", 404, 403),
    ("DELETE", "identities/Anna", 404, 403),
]
API, PAGE = ("anna", "of the API"), ("berta", "of the page")
LOGINS = {
    "none": {},
    "api": {"api_auth": ":".join(API)},
    "page": {"gradio_auth": ":".join(PAGE)},
    "both": {"api_auth": ":".join(API), "gradio_auth": f"x:y, {':'.join(PAGE)}"},
}
VISITORS = {
    "nobody": {"none"},
    "API's password": {"none", "api", "both"},
    "page's password": {"none", "page"},
    "page's cookie": {"none", "page"},
    "wrong password": {"none"},
    "the other's password": {"none"},
    "made-up cookie": {"none"},
}
REACHES = {
    "local": ({}, True),
    "listen": ({"listen": True}, False),
    "share": ({"share": True}, False),
    "proxy": ({"subpath": "sub"}, False),
    "server name": ({"server_name": "0.0.0.0"}, False),
    "listen, writes allowed": ({"listen": True, "beyondfacial_allow_writes": True}, True),
}


def launched_app(users, root_path=""):
    """gradio's application as hosts launch it, with our routes on it."""
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Textbox()
    page.auth = [*users.items()] or None
    page.auth_message = None
    page.root_path = root_path
    app = gr.routes.App.create_app(page)
    api.mount(page, app)
    return app


def visit(client, visitor):
    """What the visitor sends along; the cookie is got by logging in."""
    if visitor == "page's cookie":
        answer = client.post("/login", data={"username": PAGE[0], "password": PAGE[1]}, follow_redirects=False)
        assert answer.status_code in (200, 302)
    if visitor == "made-up cookie":
        names = ("access-token", "access-token-unsecure", f"access-token-{getattr(client.app, 'cookie_id', '')}")
        client.cookies.update(dict.fromkeys(names, "x" * 22))
    passwords = {
        "API's password": API,
        "page's password": PAGE,
        "wrong password": (API[0], "guessed"),
        "the other's password": (API[0], PAGE[1]),
    }
    return {"auth": passwords[visitor]} if visitor in passwords else {}


@pytest.fixture
def set_flags(monkeypatch, tmp_path):
    """Sets the host's flags; identities and models are looked for in an empty folder."""

    def set_to(**flags):
        given = argparse.Namespace(beyondfacial_models_dir=str(tmp_path), **flags)
        monkeypatch.setattr(shared, "cmd_opts", given)
        return given

    return set_to


def statuses(client, **sent):
    return [
        client.request(method, f"{api.ROOT}/{path}", **sent, **({"json": {}} if method == "POST" else {})).status_code
        for method, path, *_ in ROUTES
    ]


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("login", LOGINS)
def test_answer_of_each_route_to_each_visitor(set_flags, login, reach):
    reached, may_write = REACHES[reach]
    flags = set_flags(**LOGINS[login], **reached)
    users = dict([PAGE]) if hasattr(flags, "gradio_auth") else {}
    app = launched_app(users, f"/{flags.subpath}" if reach == "proxy" else "")
    for visitor, allowed in VISITORS.items():
        client = TestClient(app)
        sent = visit(client, visitor)
        wanted = [(local if may_write else public) if login in allowed else 401 for _, _, local, public in ROUTES]
        assert statuses(client, **sent) == wanted, visitor


def test_all_routes_are_in_the_table():
    found = {(method, path.split("/")[0]) for method, path, _ in api.ROUTES}
    assert found == {(method, path.split("/")[0].split("?")[0]) for method, path, *_ in ROUTES}
    assert len(api.ROUTES) == len(ROUTES)


@pytest.mark.parametrize("forwarded", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-User", "X-Auth-User"])
def test_headers_of_proxies_open_nothing(set_flags, forwarded):
    set_flags(**LOGINS["page"])
    client = TestClient(launched_app(dict([PAGE])), headers={forwarded: "127.0.0.1"})
    assert set(statuses(client)) == {401}


def test_logged_out_is_out(set_flags):
    set_flags(**LOGINS["page"])
    app = launched_app(dict([PAGE]))
    client = TestClient(app)
    visit(client, "page's cookie")
    assert statuses(client)[0] == 200
    app.tokens.clear()
    assert set(statuses(client)) == {401}


def test_login_of_a_function_takes_the_cookie_only(set_flags):
    set_flags()
    app = launched_app(dict([PAGE]))
    app.auth = lambda user, password: (user, password) == PAGE
    client = TestClient(app)
    assert set(statuses(client, auth=PAGE)) == {401}
    visit(client, "page's cookie")
    assert statuses(client)[0] == 200


def test_page_login_without_a_page_closes_the_routes(set_flags, tmp_path):
    """--nowebui with --gradio-auth or --gradio-auth-path: nobody can log in, but the password counts."""
    path = tmp_path / "users"
    path.write_text(f"x:y,z:w\n\n {':'.join(PAGE)} \n", encoding="utf-8")
    app = FastAPI()
    api.mount(None, app)
    client = TestClient(app)
    for flags in (LOGINS["page"], {"gradio_auth_path": str(path)}):
        set_flags(**flags)
        assert set(statuses(client)) == {401}
        assert statuses(client, auth=PAGE)[0] == 200
    set_flags(gradio_auth_path=str(tmp_path / "absent"))
    assert set(statuses(client, auth=PAGE)) == {401}


@pytest.fixture
def client(host, tmp_path, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    return TestClient(host.app)


def test_one_of_several_deletes_finds_it(client, photo):
    for _ in range(5):
        assert client.post(IDENTITIES, json={"name": "Anna", "references": [photo]}).status_code == 200
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: client.delete(f"{IDENTITIES}/Anna"), range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [404] * 7


@pytest.mark.parametrize("change", ["delete", "rename"])
def test_what_another_takes_away_meanwhile_is_not_found(client, photo, monkeypatch, change):
    """The file is gone between looking for it and changing it."""
    client.post(IDENTITIES, json={"name": "Anna", "references": [photo]})
    real = getattr(Path, {"delete": "unlink", "rename": "rename"}[change])

    def too_late(path, *args):
        path.replace(path.with_name("taken"))
        return real(path, *args)

    monkeypatch.setattr(Path, real.__name__, too_late)
    if change == "delete":
        answer = client.delete(f"{IDENTITIES}/Anna")
    else:
        answer = client.post(IDENTITIES, json={"name": "Anna", "rename_to": "Berta"})
    assert answer.status_code == 404
    assert 'no saved identity "Anna"' in answer.json()["detail"]


def test_uploads_tell_no_folder_and_no_bytes(tmp_path):
    """A page request can make gradio 3.41 copy any file to where uploads lie; nothing but pictures comes of it."""
    secret = tmp_path / "hidden" / "folder" / "passwd"
    secret.parent.mkdir(parents=True)
    secret.write_text("root:x:0:0", encoding="utf-8")
    picture = tmp_path / "hidden" / "face.png"
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(picture)
    links = [tmp_path / "link.png", tmp_path / "out.png"]
    links[0].symlink_to(picture)
    links[1].symlink_to(secret)
    bad = (secret, secret.parent, secret.with_name("absent"), secret.with_name("x\0y"), links[1], "/proc/self/environ")
    for upload in bad:
        with pytest.raises(BeyondFacialError) as caught:
            photos.decode_upload(str(upload))
        assert "hidden" not in str(caught.value)
        assert "root:" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
    for upload in (picture, links[0]):
        decoded = photos.decode_upload(str(upload))
        assert (decoded.image == 7).all()
        assert set(vars(decoded)) == {"name", "image"}
        assert "/" not in decoded.name
    promise = " ".join(inspect.getdoc(photos.decode_upload).split())
    assert "no request can read the server's own files" not in promise
    assert "gradio 3.41 copies" in promise
