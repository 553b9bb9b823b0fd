"""What a host says of its CFG is true: x0 behind it is `Step.denoised`, and changes by `Step.guidance` x delta."""

from __future__ import annotations

from itertools import cycle, islice

import pytest
import torch

from lib_beyondfacial.sampling.sampling_pass import SamplingPass

REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5, "cfg_scale": 7.0}
NGMS = {"s_min_uncond": 2000.0}  # above every sigma, and every timestep of DDIM
CASES = {  # the request; whether the levels have an uncond row, over and over
    "NGMS at all levels": ({**NGMS, "override_settings": {"s_min_uncond_all": True}}, [False]),
    "plain": ({}, [True]),
    "batch": ({"batch_size": 2}, [True]),
    "AND": ({"prompt": "a photo AND face :0.5"}, [True]),
    "NGMS at every other": (NGMS, [True, False]),
}
CFG_PLUS_PLUS = 1 / 12.5  # as A1111's own CFG++ samplers set it


@pytest.fixture
def record(monkeypatch, photo):
    """record(host, **request) -> (step, predictions, delta, the host's own x0 behind CFG) of every level.

    delta is one that nobody can overlook, in the place of the method's.
    """
    from demo.miniwebui import samplers, shared

    given: list[tuple] = []
    after: list[torch.Tensor] = []
    delta_of = SamplingPass.delta

    def delta(self, step, predictions):
        delta_of(self, step, predictions)
        noise = torch.randn(step.denoised.shape, generator=torch.Generator().manual_seed(len(given)))
        given.append((step, predictions, 0.1 * step.denoised.abs().max() * noise))
        return given[-1][2].clone()

    monkeypatch.setattr(SamplingPass, "delta", delta)
    monkeypatch.setattr(
        samplers.Sampler, "callback_state", lambda self, d: after.append(shared.state.current_latent.clone())
    )

    def record(host, **request):
        unit = {"enabled": True, "references": [photo], "adapter": "fits", "mask_mode": "whole", "start": 0.0}
        unit |= {"idap_strength": 0.0, "refine_head": False}
        host.txt2img(**{**REQUEST, **request, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}})
        assert len(given) == len(after) > 0
        return [(*level, denoised) for level, denoised in zip(given, after, strict=True)]

    return record


def assert_true(levels) -> None:
    for step, _, delta, denoised in levels:
        largest = float(denoised.abs().max())
        assert torch.allclose(denoised, step.denoised + step.guidance * delta, atol=1e-3 * largest)


def test_the_live_preview_shows_the_fused_prediction(any_host, record, monkeypatch):
    """A1111's is by default that of the prompt alone, which is the sampler's last latent; Forge's is behind CFG."""
    from demo.miniwebui import samplers, shared

    shown: list[torch.Tensor] = []
    is_forge = hasattr(shared.sd_model, "forge_objects")
    original = samplers.Sampler.callback_state

    def note(self, d):
        shown.append((shared.state.current_latent if is_forge else self.last_latent).clone())
        return original(self, d)

    monkeypatch.setattr(samplers.Sampler, "callback_state", note)
    levels = record(any_host, sampler_name="Euler")
    for (step, predictions, delta, _), preview in zip(levels, shown, strict=True):
        plain, scale = (step.denoised, step.guidance) if is_forge else (predictions.semantic, 1.0)
        assert torch.allclose(preview, plain + scale * delta, atol=1e-3 * float(preview.abs().max()))


@pytest.mark.parametrize("any_host", ["a1111"], indirect=True)
def test_guidance_of_cfg_plus_plus_is_scaled_down(any_host, record, monkeypatch):
    from demo.miniwebui.samplers import KDiffusionSampler

    monkeypatch.setattr(KDiffusionSampler.denoiser, "cond_scale_miltiplier", CFG_PLUS_PLUS)
    levels = record(any_host, sampler_name="Euler")
    assert_true(levels)
    assert [step.guidance for step, *_ in levels] == pytest.approx([7.0 * CFG_PLUS_PLUS] * 5)


@pytest.mark.parametrize("sampler_name", ["Euler", "DDIM"])
@pytest.mark.parametrize("case", CASES)
def test_guidance_is_how_x0_behind_cfg_changes(any_host, record, case, sampler_name):
    request, pattern = CASES[case]
    levels = record(any_host, sampler_name=sampler_name, **request)
    assert_true(levels)
    has_uncond = list(islice(cycle(pattern), len(levels)))
    assert [predictions.uncond is not None for _, predictions, *_ in levels] == has_uncond
    assert [step.guidance != 1 for step, *_ in levels] == has_uncond
    assert {step.cfg_scale for step, *_ in levels} == {7.0}, "the user's, whatever the host does at a level"
    parts = 1 + request.get("prompt", "").count("AND")
    assert [step.rows for step, *_ in levels] == [parts + each for each in has_uncond]
