"""What every test finds: torch on OMP_NUM_THREADS or two threads, hypothesis without deadlines."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import hypothesis
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(min(2, os.cpu_count() or 1))
hypothesis.settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("house")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: make test-slow"))


@pytest.fixture
def installer(tmp_path, monkeypatch):
    """install.py as the host would run it, for an extension in a folder of its own."""
    spec = importlib.util.spec_from_file_location("beyondfacial_install", ROOT / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target = tmp_path / "lib_beyondfacial" / "faces"
    target.mkdir(parents=True)
    (target / "vendor.py").write_bytes((ROOT / "lib_beyondfacial/faces/vendor.py").read_bytes())
    monkeypatch.setattr(module, "EXTENSION", tmp_path)
    monkeypatch.setattr(sys, "argv", ["install.py"])
    monkeypatch.delenv("COMMANDLINE_ARGS", raising=False)
    return module
