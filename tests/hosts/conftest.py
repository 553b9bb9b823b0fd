import pytest
import torch

from demo.miniwebui import host as miniature
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from tests.forge_double.host import booted
from tests.webui.conftest import host, models_dir, other_photo, photo

__all__ = ["any_host", "host", "models_dir", "other_photo", "photo"]


@pytest.fixture(params=["a1111", "forge"])
def any_host(request, models_dir):
    """Each kind of host in turn, booted, with the extension's script."""
    if request.param == "a1111":
        yield miniature.boot(models_dir, [miniature.REPOSITORY])
    else:
        with booted(models_dir, [miniature.REPOSITORY]) as double:
            yield double.host


@pytest.fixture
def without_delta(monkeypatch):
    """The identity line runs at every level, and nothing of it is added."""
    monkeypatch.setattr(SamplingPass, "delta", lambda self, step, predictions: torch.zeros_like(step.denoised))
