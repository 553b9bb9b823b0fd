"""Spaces, schedules, guidance and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.miniwebui.conftest import REQUEST


def as_array(image: bytes) -> np.ndarray:
    return np.frombuffer(image, np.uint8).astype(int)


@pytest.mark.parametrize("sampler_name", ["Euler", "DDIM"])
def test_space_of_the_inner_model(generate: Any, probe: Any, sampler_name: str) -> None:
    """Euler: sigma is sigma and the model gives x0; DDIM: sigma is a timestep and the model gives eps."""
    from modules import shared

    checked = []

    def check(params: Any) -> None:
        x, sigma, text = params.x, params.sigma, torch.cat([params.text_cond, params.text_uncond])
        cond = {"c_crossattn": [text], "c_concat": [params.image_cond]}
        out = params.denoiser.inner_model(x, sigma, cond=cond)
        if sampler_name == "DDIM":
            want = shared.sd_model.model.diffusion_model(x, sigma, text)
        else:
            scale, t = sigma[0], params.denoiser.inner_model.sigma_to_t(sigma)
            want = x - scale * shared.sd_model.model.diffusion_model(x / (1 + scale**2) ** 0.5, t, text)
        checked.append((torch.allclose(out, want), sigma[0].item()))

    probe.act["cfg_denoiser"] = check
    generate(steps=4, sampler_name=sampler_name)
    assert all(fine for fine, _ in checked)
    levels = [level for _, level in checked]
    assert levels == [751, 501, 251] if sampler_name == "DDIM" else len(levels) == 4
    assert levels == sorted(levels, reverse=True)


def test_schedules(generate: Any, probe: Any) -> None:
    def sigmas(**changes: Any) -> list[float]:
        levels: list[float] = []
        probe.act["cfg_denoiser"] = lambda params: levels.append(params.sigma[0].item())
        generate(steps=3, **changes)
        return levels

    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    levels = np.sqrt((1 - alphas) / alphas)
    assert sigmas() == pytest.approx([levels[999], np.sqrt(levels[499] * levels[500]), levels[0]], rel=1e-3)
    karras = sigmas(sampler_name="DPM++ 2M")
    middle = ((levels[999] ** (1 / 7) + levels[0] ** (1 / 7)) / 2) ** 7
    assert karras == pytest.approx([levels[999], middle, levels[0]], rel=1e-3)
    assert sigmas(scheduler="Karras") == karras


def test_cfg_1_keeps_the_uncond_rows_but_not_their_effect(generate: Any, probe: Any) -> None:
    rows: list[int] = []
    probe.act["cfg_denoiser"] = lambda params: rows.append(len(params.x))
    one = generate(cfg_scale=1, negative_prompt="red")
    assert set(rows) == {2}
    assert np.abs(as_array(one[0]) - as_array(generate(cfg_scale=1, negative_prompt="the face")[0])).max() <= 1
    assert generate(cfg_scale=7, negative_prompt="red") != generate(cfg_scale=7, negative_prompt="the face")


def test_ngms_replaces_uncond_by_the_first_cond(generate: Any, probe: Any) -> None:
    shared_rows: list[bool] = []
    probe.act["cfg_denoised"] = lambda params: shared_rows.append(torch.equal(params.x[-2:], params.x[:2]))
    generate(s_min_uncond=100, batch_size=2, steps=4)
    assert shared_rows == [False, True, False, True]


def test_and_is_the_weighted_sum_of_its_parts(generate: Any, probe: Any) -> None:
    kept: dict[str, torch.Tensor] = {}
    probe.act["cfg_denoised"] = lambda params: kept.update(rows=params.x.clone())
    probe.act["cfg_after_cfg"] = lambda params: kept.update(sum=params.x.clone())
    generate(prompt="photo AND face :0.5 AND man :-0.25", steps=1, cfg_scale=4)
    a, b, c, uncond = kept["rows"]
    want = uncond + 4 * ((a - uncond) + 0.5 * (b - uncond) - 0.25 * (c - uncond))
    assert torch.allclose(kept["sum"][0], want, atol=1e-4)


@pytest.mark.parametrize("sampler_name", ["Euler a", "DDIM"])
def test_a_batch_equals_its_pictures_one_by_one(generate: Any, sampler_name: str) -> None:
    batch = generate(batch_size=2, n_iter=2, sampler_name=sampler_name)
    single = [generate(seed=7 + i, sampler_name=sampler_name)[0] for i in range(4)]
    for a, b in zip(batch, single, strict=True):
        assert np.abs(as_array(a) - as_array(b)).max() <= 2
    assert len(set(batch)) == 4


def test_start_noise_is_the_seeds_own(generate: Any, probe: Any) -> None:
    noises: list[torch.Tensor] = []
    probe.act["process_before_every_sampling"] = lambda p, *_args, x, noise, **_kwargs: noises.append(
        (noise.clone(), x is noise)
    )
    generate(batch_size=2, height=72)
    want = [torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(seed)) for seed in (7, 8)]
    assert torch.equal(noises[0][0], torch.stack(want))
    assert noises[0][1]


def test_long_prompt_has_its_rows_computed_apart(generate: Any, probe: Any) -> None:
    from modules import shared

    callback_tokens: list[tuple[int, int]] = []
    unet_calls: list[tuple[int, int]] = []  # rows and tokens of each

    def note_call(_unet: Any, _args: tuple, kwargs: dict[str, Any]) -> None:
        unet_calls.append(tuple(kwargs["context"].shape[:2]))

    def calls_of(**changes: Any) -> list[tuple[int, int]]:
        unet_calls.clear()
        generate(prompt="photo of a man " * 20, batch_size=2, steps=1, **changes)
        return list(unet_calls)

    probe.act["cfg_denoiser"] = lambda params: callback_tokens.append(
        (params.text_cond.shape[1], params.text_uncond.shape[1])
    )
    handle = shared.sd_model.model.diffusion_model.register_forward_pre_hook(note_call, with_kwargs=True)
    try:
        assert calls_of() == [(2, 154), (2, 77)]
        assert calls_of(override_settings={"pad_cond_uncond": True}) == [(4, 154)]
        assert calls_of(override_settings={"batch_cond_uncond": False}) == [(2, 154), (2, 77)]
    finally:
        handle.remove()
    assert set(callback_tokens) == {(154, 77)}


def test_options_are_overridden_for_one_request(host: Any, generate: Any) -> None:
    from modules import shared

    plain = generate()
    assert generate(override_settings={"CLIP_stop_at_last_layers": 2}) != plain
    assert shared.opts.CLIP_stop_at_last_layers == 1
    assert generate() == plain
    _, info = host.txt2img(**(REQUEST | {"override_settings": {"CLIP_stop_at_last_layers": 2}}))
    assert "Clip skip: 2" in info["infotexts"][0]


def test_autoencoder_through_the_models_own_methods(host: Any) -> None:
    from modules import shared

    model = shared.sd_model
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    z = model.get_first_stage_encoding(model.encode_first_stage(x))
    assert torch.allclose(z, model.first_stage_model.encode(x).mode() * 0.18215, atol=1e-5)
    assert torch.equal(model.decode_first_stage(z), model.first_stage_model.decode(z / 0.18215))
    assert (model.is_sdxl, model.is_sd1, model.parameterization) == (False, True, "eps")
