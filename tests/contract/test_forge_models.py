"""What samples in the Forge-shaped double: models that are refused by what they are, refiners, v-prediction, bf16."""

from __future__ import annotations

import copy

import pytest
import torch
from fastapi import HTTPException

from lib_beyondfacial.hosts.forge.model import ForgeHost
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from tests.contract.forge_case import (
    EVERY_KIND,
    NEUTRAL,
    REQUEST,
    almost,
    calls,
    double,
    leaves_nothing,
    models_dir,
    patch_unet,
    photo,
    run,
    same,
    zero_mask,
)
from tests.forge_double.host import ForgeDenoiser
from tests.forge_double.patcher import ForgeModel, KModel

__all__ = ["calls", "double", "leaves_nothing", "models_dir", "photo", "run", "zero_mask"]

ONLY_NEO = pytest.mark.parametrize("double", ["neo"], indirect=True, scope="module")


def kmodel_of(double) -> KModel:
    return double.model.forge_objects_original.unet.model


def law_of(double) -> torch.nn.Module:
    kmodel = kmodel_of(double)
    return getattr(kmodel, kmodel.schedule)


def refusal_of(run, unit=NEUTRAL, **request) -> str:
    with pytest.raises(HTTPException) as raised:
        run(unit, **request)
    assert raised.value.status_code == 422
    return raised.value.detail


@pytest.mark.parametrize(
    ("engine", "name"), [("QwenImage", "Qwen-Image"), ("Flux2", "FLUX.2"), ("ZImage", "Z-Image"), ("Wan", "Wan")]
)
def test_unet_without_text_attention_is_refused_by_name(double, run, monkeypatch, engine, name):
    monkeypatch.setattr(double.model, "__class__", type(engine, (ForgeModel,), {}))
    monkeypatch.setitem(kmodel_of(double)._modules, "diffusion_model", torch.nn.Linear(1, 1))
    assert f"a {name} model" in refusal_of(run)


def test_other_latents_are_refused_by_name(double, run, monkeypatch):
    monkeypatch.setattr(double.model, "__class__", type("Mugen", (ForgeModel,), {}))
    monkeypatch.setattr(double.model.forge_objects_original.vae, "latent_channels", 32)
    assert "a Mugen model" in refusal_of(run)


class CONST:
    """The name of reForge's base class of flow predictors."""


@EVERY_KIND
def test_rectified_flow_is_refused(double, run, monkeypatch):
    law = law_of(double)
    if ForgeDenoiser.kind.backend:
        monkeypatch.setattr(law, "prediction_type", "const")
    else:
        monkeypatch.setattr(law, "__class__", type("ModelSampling", (type(law), CONST), {}))
    assert "rectified-flow" in refusal_of(run)


def test_rectified_flow_of_another_script_is_refused(double, run, monkeypatch):
    law = type("ModelSampling", (torch.nn.Module, CONST), {})()

    def advanced_sampling(unet):
        unet.object_patches = {"model_sampling": law}

    patch_unet(double, monkeypatch, advanced_sampling)
    assert "rectified-flow" in refusal_of(run)


@EVERY_KIND
@pytest.mark.parametrize("terminal_snr", [False, True], ids=["v-prediction", "v-prediction, zero-terminal SNR"])
def test_v_prediction_is_served(double, run, zero_mask, monkeypatch, terminal_snr):
    law = law_of(double)
    monkeypatch.setattr(law, "prediction_type", "v_prediction")
    if terminal_snr:
        monkeypatch.setitem(law._buffers, "sigmas", torch.cat([law.sigmas[:-1], torch.tensor([4518.0])]))
    plain = run()
    changed = run(NEUTRAL | {"idap_strength": 0.5})
    assert not same(plain, changed)
    assert same(plain, run())
    zero_mask()
    assert almost(plain, run(NEUTRAL))


def test_zero_terminal_snr_keeps_its_start(double, run, zero_mask, monkeypatch):
    """Its first level holds no trace of the start's latents, so nothing is prepended."""
    law = law_of(double)
    monkeypatch.setitem(law._buffers, "sigmas", torch.cat([law.sigmas[:-1], torch.tensor([4518.0])]))
    plain = run()
    zero_mask()
    assert almost(plain, run(NEUTRAL | {"idap_strength": 0.5}))


@EVERY_KIND
def test_bf16_is_served(double, run, zero_mask, monkeypatch):
    kmodel, before = kmodel_of(double), copy.deepcopy(kmodel_of(double).diffusion_model.state_dict())
    monkeypatch.setattr(kmodel, "dtype", torch.bfloat16)
    kmodel.diffusion_model.to(torch.bfloat16)
    try:
        plain, changed = run(), run(NEUTRAL | {"mask_mode": "whole"})
        assert not almost(plain, changed)
        assert same(plain, run())
    finally:
        kmodel.diffusion_model.float().load_state_dict(before)


@EVERY_KIND
def test_encoding_is_the_posteriors_mean_and_draws_nothing(double):
    class Processing:
        sd_model, sampler, width, height = double.model, None, 64, 64

    host, picture = ForgeHost(Processing), torch.rand(3, 64, 64) * 2 - 1
    mean = double.model._model.first_stage_model.encode(picture[None]).mode()
    before = torch.get_rng_state()
    (encoded,) = host.encode_images(picture[None])
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(encoded, mean[0] * double.model._model.scale_factor, atol=1e-5, rtol=0)


def another_model(double) -> ForgeModel:
    first = double.model
    second = ForgeModel(first._model, kmodel_of(double).schedule)
    unet = copy.deepcopy(kmodel_of(double).diffusion_model)
    second.forge_objects.unet.model.diffusion_model = unet
    return second


def info_with_refiner(double, photo, monkeypatch, bring) -> str:
    """The infotext's parameters of a request with a refiner: from its third step, or below noise level 5."""
    from demo.miniwebui import shared

    unit = {"enabled": True, "references": [photo], "adapter": "fits", **NEUTRAL}
    payload = {**REQUEST, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}}
    switch = 5.0 if ForgeDenoiser.kind.refines_by_sigma else 2
    first = double.model
    try:
        monkeypatch.setattr(ForgeDenoiser, "refiner", (switch, bring))
        return str(double.host.txt2img(**payload)[1]["extra_generation_params"])
    finally:
        shared.sd_model = first


@EVERY_KIND
def test_refiner_ends_the_identity_with_a_warning(double, photo, monkeypatch):
    second = another_model(double)
    assert "refiner took over" in info_with_refiner(double, photo, monkeypatch, second)
    assert "conditioning_modifiers" not in second.forge_objects.unet.model_options


@EVERY_KIND
def test_refiner_in_the_same_unet_ends_the_identity_with_a_warning(double, photo, monkeypatch):
    unet = kmodel_of(double).diffusion_model
    before, acted, original = copy.deepcopy(unet.state_dict()), [], SamplingPass.delta
    monkeypatch.setattr(SamplingPass, "delta", lambda *args: acted.append(1) or original(*args))

    def reload():
        unet.load_state_dict({name: 1.01 * weight for name, weight in before.items()})
        return double.model

    try:
        info = info_with_refiner(double, photo, monkeypatch, reload)
    finally:
        unet.load_state_dict(before)
    assert "refiner took over" in info
    assert 0 < len(acted) < REQUEST["steps"]


@ONLY_NEO
def test_compiled_unet_is_refused(double, run, monkeypatch):
    plain, kmodel = run(), kmodel_of(double)
    with monkeypatch.context() as unit:
        unit.setattr(kmodel, "_torch_compile_config", ("dynamic",), raising=False)
        assert "torch.compile" in refusal_of(run)
    with monkeypatch.context() as unit:
        unit.setattr(kmodel.diffusion_model.middle_block, "_compiled_call_impl", lambda *args: None)
        assert "torch.compile" in refusal_of(run)
    assert same(plain, run())


@EVERY_KIND
def test_a_hosts_own_nan_is_not_blamed_on_the_identity(double, run, monkeypatch):
    plain, kmodel = run(), kmodel_of(double)
    with monkeypatch.context() as broken:
        broken.setitem(kmodel.diffusion_model.out[2]._parameters, "bias", torch.full((4,), float("nan")))
        sentence = refusal_of(run)
    assert "the model itself gave NaN" in sentence
    assert "weight" not in sentence
    assert same(plain, run())
