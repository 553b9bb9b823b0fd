"""A refiner whose weights come into the same UNet: on A1111, where no second model is kept."""

from __future__ import annotations

import copy

import pytest

from demo.miniwebui import denoiser
from lib_beyondfacial.sampling.sampling_pass import SamplingPass

REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5}
SWITCH = 2  # step


@pytest.fixture
def reloading(host, monkeypatch):
    """Load other weights at step SWITCH of every sampling; what was there is loaded again afterwards."""
    from modules import shared

    unet = shared.sd_model.model.diffusion_model
    before, original = copy.deepcopy(unet.state_dict()), denoiser.CFGDenoiser.forward

    def forward(self, *args, **kwargs):
        if self.step == SWITCH:
            shared.sd_model.load_state_dict(
                {f"model.diffusion_model.{name}": 1.01 * weight for name, weight in before.items()}, strict=False
            )
        return original(self, *args, **kwargs)

    monkeypatch.setattr(denoiser.CFGDenoiser, "forward", forward)
    yield
    unet.load_state_dict(before)
    assert not unet._load_state_dict_post_hooks


@pytest.mark.usefixtures("reloading")
def test_refiner_in_the_same_unet_ends_the_identity_with_a_warning(host, photo, monkeypatch):
    levels, original = [], SamplingPass.delta
    monkeypatch.setattr(SamplingPass, "delta", lambda *args: levels.append(1) or original(*args))
    unit = {"enabled": True, "references": [photo], "adapter": "fits", "start": 0.0, "refine_head": False}
    info = host.txt2img(**REQUEST, alwayson_scripts={"BeyondFacial": {"args": [unit]}})[1]
    assert "refiner took over" in str(info["extra_generation_params"])
    assert len(levels) == SWITCH
