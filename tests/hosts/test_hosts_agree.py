"""Both kinds of host hand a pass the same things: the same request on both, recorded where the method is entered."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from demo.miniwebui import host as miniature
from demo.nets import unet
from lib_beyondfacial.faces import FaceAnalyser
from lib_beyondfacial.sampling.head_refinement import HeadRefinement
from lib_beyondfacial.sampling.plan import PERSON
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from tests.forge_double.host import booted

REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5, "batch_size": 2}
CLOSE = 3e-5  # x0 is what is left of x - sigma eps, numbers of up to 60: eight fp32 roundings at that size
MASK_CLOSE = 1e-2  # a steep function of quotients of such differences
READINGS = ("head", "subject", "energy")


@pytest.fixture
def record(monkeypatch, photo):
    """record(host, **request) -> per level what the method was given and what it gave."""
    levels: list[dict] = []
    original = SamplingPass.delta

    def recording(self, step, predictions):
        delta = original(self, step, predictions)
        if predictions is not None:
            (name,) = predictions.identity
            readings = predictions.readings[name]
            given = {f"{kind} {i}": r for kind in READINGS for i, r in enumerate(getattr(readings, kind))}
            given |= {"difference": predictions.identity[name] - predictions.semantic}
            given |= {"response": predictions.semantic - predictions.uncond, "denoised": step.denoised}
            levels.append(given | {"mask": self.report.masks[name], "delta": delta})
        return delta

    monkeypatch.setattr(SamplingPass, "delta", recording)

    def record(host, refine_head=False, **request):
        unit = {"enabled": True, "references": [photo], "adapter": "fits", "idap_strength": 0.0, "start": 0.0}
        unit |= {"refine_head": refine_head, "refine_size": 64}
        payload = {**REQUEST, **request, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}}
        levels.clear()
        images = [np.asarray(image).astype(int) for image in host.txt2img(**payload)[0]]
        return list(levels), images

    return record


@pytest.fixture
def exact(monkeypatch):
    """A UNet in fp64: what it gives does not depend on which rows are computed together."""
    embedding, forward = unet.timestep_embedding, unet.UNetModel.forward

    def in_double(self, x, timesteps, context):
        return forward(self.double(), x.double(), timesteps, context.double()).float()

    monkeypatch.setattr(unet, "timestep_embedding", lambda *args: embedding(*args).double())
    monkeypatch.setattr(unet.UNetModel, "forward", in_double)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("sampler_name", ["Euler", "DPM++ 2M", "DDIM"])
def test_same_request_gives_the_same_predictions_masks_and_delta(models_dir, record, sampler_name):
    extensions = [miniature.REPOSITORY]
    on_a1111, pictures = record(miniature.boot(models_dir, extensions), sampler_name=sampler_name)
    with booted(models_dir, extensions) as double:
        on_forge, others = record(double.host, sampler_name=sampler_name)
    assert len(on_a1111) == len(on_forge) > 0
    for level, (one, other) in enumerate(zip(on_a1111, on_forge, strict=True)):
        assert one.keys() == other.keys()
        error = {name: float((one[name] - other[name]).abs().max()) for name in one}
        for name in one.keys() - {"mask", "delta"}:
            scale = max(1.0, float(one[name].abs().max()))
            assert error[name] < CLOSE * scale, f"{name} differs by {error[name]:.1e} at level {level}"
        assert error["mask"] < MASK_CLOSE
        # delta is mask times difference: it may differ by what the two make of their own errors, and no more.
        largest = max(1.0, float(one["difference"].abs().max()))
        assert error["delta"] < largest * (error["mask"] + CLOSE)
    assert on_a1111[0]["mask"].max() > 0
    assert max(np.abs(a - b).max() for a, b in zip(pictures, others, strict=True)) <= 1


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("sampler_name", ["Euler", "DPM++ 2M", "DDIM"])
def test_head_refinement_is_the_same(models_dir, record, monkeypatch, sampler_name):
    """A head in the batch's first picture at the first attempt, in the second one at the second."""
    attempts: list = []
    note_attempt = HeadRefinement.note_attempt

    def noting(refinement, sigma, found):
        note_attempt(refinement, sigma, found)
        attempts.append((sigma, found))

    def find_in_scene(self, image):
        calls.append(image.astype(int))
        box, landmarks = np.array((20.0, 10.0, 36.0, 26.0)), np.zeros((5, 2))
        face = SimpleNamespace(box=box, landmarks=landmarks, normed_embedding=np.zeros(512), gender=None)
        return [face] if len(calls) != 2 else []

    monkeypatch.setattr(HeadRefinement, "note_attempt", noting)
    monkeypatch.setattr(FaceAnalyser, "find_in_scene", find_in_scene)
    extensions, request = [miniature.REPOSITORY], {"sampler_name": sampler_name, "steps": 8}
    calls: list = []
    _, pictures = record(miniature.boot(models_dir, extensions), refine_head=True, **request)
    on_a1111, shown = attempts.copy(), calls.copy()
    attempts.clear()
    calls.clear()
    with booted(models_dir, extensions) as double:
        _, others = record(double.host, refine_head=True, **request)
    assert [(f.refined, f.done) for _, f in on_a1111] == [
        ({PERSON: (True, False)}, {PERSON: (True, False)}),
        ({PERSON: (False, True)}, {PERSON: (True, True)}),
    ]
    assert len(on_a1111) == len(attempts)
    assert max(np.abs(a - b).max() for a, b in zip(shown, calls, strict=True)) <= 2
    for (sigma, one), (other_sigma, other) in zip(on_a1111, attempts, strict=True):
        assert sigma == pytest.approx(other_sigma, rel=1e-3)
        assert (one.refined, one.done) == (other.refined, other.done)
        assert torch.allclose(one.mask, other.mask)
        assert float((one.denoised - other.denoised).abs().max()) < 2e-2
    assert max(np.abs(a - b).max() for a, b in zip(pictures, others, strict=True)) <= 2
