"""On the Forges, where low memory has room for one network: how often the autoencoder takes the UNet's place."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from demo.miniwebui import host as miniature
from lib_beyondfacial.faces import FaceAnalyser
from tests.forge_double import host as forge_host
from tests.forge_double import patcher, sampling
from tests.forge_double.host import booted

HEAD = (60.0, 20.0, 76.0, 36.0)
REQUEST = {"prompt": "a photo of man", "steps": 12, "width": 96, "height": 64, "seed": 5, "sampler_name": "DPM++ 2M"}


@pytest.fixture
def double(models_dir):
    with booted(models_dir, [miniature.REPOSITORY]) as double:
        yield double


@pytest.fixture
def networks(double, monkeypatch):
    """Which network was in memory, in turn, as if there were room for one."""
    loaded: list[str] = []

    def noting(name, function):
        def call(*args, **kwargs):
            loaded.append(name)
            return function(*args, **kwargs)

        return call

    prepare = noting("unet", sampling.sampling_prepare)
    for module in (sampling, forge_host.sampling, sys.modules["backend.sampling.sampling_function"]):
        monkeypatch.setattr(module, "sampling_prepare", prepare)
    monkeypatch.setattr(patcher.Vae, "encode", noting("vae", patcher.Vae.encode))
    monkeypatch.setattr(patcher.ForgeModel, "decode_first_stage", noting("vae", patcher.ForgeModel.decode_first_stage))
    return loaded


@pytest.fixture
def run(double, networks, monkeypatch, photo):
    """run(boxes per search, batch) -> the networks in the order in which they were loaded."""

    def run(*searches, batch=1):
        boxes = itertools.chain(searches, itertools.repeat(searches[-1] if searches else []))

        def find_in_scene(self, image):
            face = {"landmarks": np.zeros((5, 2)), "normed_embedding": np.zeros(512), "gender": None}
            return [SimpleNamespace(box=np.array(box), **face) for box in next(boxes)]

        monkeypatch.setattr(FaceAnalyser, "find_in_scene", find_in_scene)
        unit = {"enabled": True, "references": [photo], "adapter": "fits", "refine_size": 64}
        scripts = {"BeyondFacial": {"args": [unit]}} if searches else {}
        networks.clear()
        double.host.txt2img(**REQUEST, batch_size=batch, alwayson_scripts=scripts)
        return [name for name, _ in itertools.groupby(networks)]

    return run


def test_plain_picture_loads_each_network_once(run):
    assert run() == ["unet", "vae"]


@pytest.mark.parametrize("batch", [1, 3])
def test_refinement_takes_the_unets_place_twice_however_large_the_batch(run, batch):
    """Once to see the picture and encode the crops, once to decode the heads and encode them in their place."""
    assert run([HEAD], batch=batch) == ["unet", "vae"] * 3


def test_each_search_without_a_head_takes_it_once(run):
    assert run([]) == ["unet", "vae"] * (1 + 2)  # of 12 steps, the levels .96 and .53; and the picture's own decoding
