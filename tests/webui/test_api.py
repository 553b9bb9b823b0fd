"""Routes that only tell, open and under the host's own password, through a real client."""

from __future__ import annotations

import argparse

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from demo.miniwebui import shared
from lib_beyondfacial import __version__
from lib_beyondfacial.settings import Settings
from lib_beyondfacial.webui import api

ROUTES = ["/beyondfacial/v1/version", "/beyondfacial/v1/schema", "/beyondfacial/v1/schema/faces"]


@pytest.fixture
def client():
    app = FastAPI()
    api.mount(None, app)
    return TestClient(app)


@pytest.fixture(params=["", "user:secret", "other:x,user:secret", "user:secret,other:päss:word"])
def flags(request, monkeypatch):
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace(api_auth=request.param or None))
    return request.param


@pytest.mark.parametrize("route", ROUTES)
def test_password_is_asked_where_the_host_asks_it(client, flags, route):
    wanted = 401 if flags else 200
    assert client.get(route).status_code == wanted
    assert client.get(route, auth=("user", "wrong")).status_code == wanted
    assert client.get(route, auth=("nobody", "secret")).status_code == wanted
    assert client.get(route, auth=("user", "secret")).status_code == 200
    if flags:
        assert client.get(route).headers["www-authenticate"] == "Basic"


def test_passwords_may_hold_colons(client, monkeypatch):
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace(api_auth="user:pass:word"))
    assert client.get(ROUTES[0], auth=("user", "pass:word")).status_code == 200
    assert client.get(ROUTES[0], auth=("user", "pass")).status_code == 401


def test_answers(client, monkeypatch):
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace())
    assert client.get(ROUTES[0]).json() == {"version": __version__, "api": "v1"}
    assert client.get(ROUTES[1]).json() == Settings.json_schema()


def test_a_schema_that_is_not_there_is_said(client, monkeypatch):
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace())
    answer = client.get("/beyondfacial/v1/schema/nothing")
    assert answer.status_code == 404
    assert "faces and identities" in answer.json()["detail"]
