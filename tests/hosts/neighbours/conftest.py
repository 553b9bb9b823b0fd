"""A1111's miniature with a double of sd-webui-controlnet beside us."""

from __future__ import annotations

import pytest

from tests.hosts import neighbours_host

SIDE = 64


@pytest.fixture(scope="module")
def host(models_dir, tmp_path_factory):
    return neighbours_host.boot(models_dir, tmp_path_factory.mktemp("webui"))


@pytest.fixture
def neighbour(host):
    module = neighbours_host.double()
    yield module
    module.units.clear()


@pytest.fixture
def ask(host, photo):
    person = {"references": [photo], "adapter": "fits"}
    request = {"steps": 4, "width": SIDE, "height": SIDE, "seed": 5, "prompt": "a photo of man"}
    plain = neighbours_host.asker(host, person, **request)
    return lambda identity=None, **changes: plain(
        None if identity is None else {"refine": False, "start_identity": 0.5, "start": 0.0, **identity}, **changes
    )


@pytest.fixture
def unet(host):
    from modules import shared

    return shared.sd_model.model.diffusion_model
