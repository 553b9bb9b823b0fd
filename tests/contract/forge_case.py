"""What the cases of the Forge-shaped double share: the double, a request, what ran, and what must be gone after."""

from __future__ import annotations

import numpy as np
import pytest

from demo.miniwebui.host import REPOSITORY
from lib_beyondfacial.hosts.forge import batch
from lib_beyondfacial.method import decision
from tests.comparing import almost, hooks_on, same
from tests.forge_double import sampling
from tests.forge_double.host import booted
from tests.webui.conftest import models_dir, photo

__all__ = ["almost", "calls", "double", "leaves_nothing", "models_dir", "photo", "run", "same", "zero_mask"]

LONG = "a photo of man in the red house, " * 12
REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5}
NEUTRAL = {"idap_strength": 0.0, "start": 0.0, "refine_head": False}
SHAPES = {
    "one": {},
    "batch": {"batch_size": 2},
    "cfg 1": {"cfg_scale": 1.0},
    "AND": {"prompt": "a photo AND face :0.5"},
    "AND batch": {"prompt": "a photo AND face :0.5", "batch_size": 2},
    "long prompt": {"prompt": LONG},
    "hires": {"enable_hr": True, "n_iter": 2},
}


EVERY_KIND = pytest.mark.parametrize("double", list(sampling.KINDS), indirect=True, scope="module")


@pytest.fixture(scope="module")
def double(request, models_dir):
    """Forge, unless a test asks for EVERY_KIND of the family."""
    with booted(models_dir, [REPOSITORY], getattr(request, "param", "forge")) as double:
        yield double


@pytest.fixture
def run(double, photo):
    """run(unit, **request) -> pictures; unit None: the extension is not asked."""

    def run(unit=None, inpaint=False, **request):
        payload = {**REQUEST, **request}
        if unit is not None:
            args = {"enabled": True, "references": [photo], "adapter": "fits", "refine_head": False, **unit}
            payload["alwayson_scripts"] = {"BeyondFacial": {"args": [args]}}
        images = double.inpaint(**payload) if inpaint else double.host.txt2img(**payload)[0]
        return [np.asarray(image) for image in images]

    return run


@pytest.fixture(autouse=True)
def leaves_nothing(double):
    """After every test, whatever happened in it."""
    unet = double.model.forge_objects_original.unet
    before = hooks_on(unet.model.diffusion_model)
    yield
    sampling.free_rows[0] = 10**9
    assert hooks_on(unet.model.diffusion_model) == before
    assert_nothing_left(double, unet)


def assert_nothing_left(double, unet) -> None:
    """No modifier, option or memory of ours in the host, whose first patcher is still `unet`."""
    for objects in (double.model.forge_objects, double.model.forge_objects_after_applying_lora):
        assert not [m for m in objects.unet.model_options.get("conditioning_modifiers", []) if hasattr(m, "run")]
        assert objects.unet.extra_preserved_memory_during_sampling == 0
    assert double.model.forge_objects_original.unet is unet
    assert unet.model_options == {"transformer_options": {}}
    assert "encode" not in vars(double.model.forge_objects.vae.first_stage_model)


@pytest.fixture
def calls(monkeypatch):
    """Whose rows every UNet call has: 0 uncond, 1, 2, ... the host's AND parts, -1, -2, ... the identity line's."""
    rows_per_call, original = [], batch.Call.run

    def number(parts, tag):
        line = parts[tag].line
        if line == batch.UNCOND:
            return 0
        place = sum(part.line == line for part in parts[: tag + 1])
        return place if line == batch.SEMANTIC else -place

    def noting(self, *args):
        rows_per_call.append([number(self.level.parts, tag) for tag in self.tags])
        return original(self, *args)

    monkeypatch.setattr(batch.Call, "run", noting)
    return rows_per_call


@pytest.fixture
def zero_mask(monkeypatch):
    """Force the mask to zero from now on; the identity line still runs."""
    original = decision.compute_decision

    def force():
        monkeypatch.setattr(decision, "compute_decision", lambda *a, **k: 0 * original(*a, **k))

    return force


def patch_unet(double, monkeypatch, change) -> None:
    """As a script of another extension does, and after ours: clone, register, assign back."""
    from demo.miniwebui import processing

    cls = processing.StableDiffusionProcessingTxt2Img
    original = cls.begin_pass

    def begin_pass(self, *args, **kwargs):
        noise = original(self, *args, **kwargs)
        unet = self.sd_model.forge_objects.unet.clone()
        change(unet)
        self.sd_model.forge_objects.unet = unet
        return noise

    monkeypatch.setattr(cls, "begin_pass", begin_pass)
