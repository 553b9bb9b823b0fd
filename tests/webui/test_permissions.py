"""Who may change what is saved."""

from __future__ import annotations

import argparse

import pytest

from demo.miniwebui import shared
from lib_beyondfacial.webui import permissions


@pytest.mark.parametrize(
    ("flags", "may"),
    [
        ({}, True),
        ({"listen": False, "share": False, "ngrok": None, "server_name": None}, True),
        ({"server_name": "127.0.0.1"}, True),
        ({"listen": True}, False),
        ({"share": True}, False),
        ({"ngrok": "token"}, False),
        ({"server_name": "0.0.0.0"}, False),
        ({"server_name": "192.168.1.2"}, False),
        ({"listen": True, "beyondfacial_allow_writes": True}, True),
        ({"listen": True, "beyondfacial_allow_writes": False}, False),
    ],
)
def test_writes_are_off_where_others_can_reach_it(monkeypatch, flags, may):
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace(**flags))
    assert permissions.may_write() is may
    if may:
        permissions.require_writes()
    else:
        with pytest.raises(permissions.NotAllowedError, match="--beyondfacial-allow-writes"):
            permissions.require_writes()
