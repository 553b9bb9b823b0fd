"""The script and callback contract of A1111 1.10.1 (docs/hosts/a1111.md)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tests.miniwebui.conftest import REQUEST

X0_SAMPLERS = ("Euler", "Euler a", "DPM++ 2M")
SAMPLERS = (*X0_SAMPLERS, "DDIM")


def denoiser_params(probe: Any) -> list:
    return [args[0] for args, _ in probe.records["cfg_denoiser"]]


def test_order_of_methods_and_callbacks(generate: Any, probe: Any) -> None:
    generate(steps=2, n_iter=2)
    call = ["cfg_denoiser", "cfg_denoised", "cfg_after_cfg"]
    before = [
        "before_process_batch",
        "after_extra_networks_activate",
        "process_batch",
        "process_before_every_sampling",
    ]
    picture = ["postprocess_image", "postprocess_maskoverlay", "postprocess_image_after_composite"]
    batch = [*before, *call, *call, "post_sample", "postprocess_batch", "postprocess_batch_list", *picture]
    assert probe.log == ["setup", "before_process", "process", *batch, *batch, "postprocess"]


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_rows_are_conds_then_unconds(generate: Any, probe: Any, sampler_name: str) -> None:
    kept = []
    owners: list[bool] = []

    def keep(params: Any) -> None:
        kept.append(copy.copy(params))
        owners.append(params.denoiser is params.denoiser.p.sampler.model_wrap_cfg)

    probe.act["cfg_denoiser"] = keep
    generate(prompt="a photo AND a face :0.5", batch_size=2, sampler_name=sampler_name, steps=4)
    for params in kept:
        assert params.x.shape == (6, 4, 8, 8)
        assert params.sigma.shape == (6,)
        assert params.image_cond.shape == (6, 5, 1, 1)
        assert params.text_cond.shape[0] == 4
        assert params.text_uncond.shape[0] == 2
        first, second = params.x[0], params.x[2]
        assert torch.equal(params.x, torch.stack([first, first, second, second, first, second]))
        assert params.denoiser.p is probe.records["process"][0][0][0]
    assert owners == [True] * (3 if sampler_name == "DDIM" else 4)


def test_step_counts_up_and_sampling_step_lags(generate: Any, probe: Any) -> None:
    steps = []
    probe.act["cfg_denoiser"] = lambda params: steps.append((params.denoiser.step, params.sampling_step))
    generate(steps=4)
    assert steps == [(0, 0), (1, 0), (2, 1), (3, 2)]


@pytest.mark.parametrize("field", ["x", "sigma", "text_cond", "text_uncond"])
def test_denoiser_fields_are_read_again(generate: Any, probe: Any, field: str) -> None:
    plain = generate()
    probe.act["cfg_denoiser"] = lambda params: setattr(params, field, getattr(params, field) * 0.5)
    assert generate() != plain


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_denoised_counts_in_place_only(generate: Any, probe: Any, sampler_name: str) -> None:
    plain = generate(sampler_name=sampler_name)
    probe.act["cfg_denoised"] = lambda params: setattr(params, "x", params.x + 1)
    assert generate(sampler_name=sampler_name) == plain
    probe.act["cfg_denoised"] = lambda params: params.x.add_(1)
    assert generate(sampler_name=sampler_name) != plain


def test_after_cfg_counts_both_ways(generate: Any, probe: Any) -> None:
    plain = generate()
    probe.act["cfg_after_cfg"] = lambda params: setattr(params, "x", params.x + 1)
    assigned = generate()
    probe.act["cfg_after_cfg"] = lambda params: params.x.add_(1)
    assert assigned == generate() != plain


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_second_inner_model_call_is_bit_equal_and_harmless(generate: Any, probe: Any, sampler_name: str) -> None:
    plain = generate(sampler_name=sampler_name)
    rows, differences = {}, []
    probe.act["cfg_denoiser"] = lambda params: rows.update(params=params)

    def again(params: Any) -> None:
        host = rows["params"]
        text = torch.cat([host.text_cond, host.text_uncond])
        out = params.inner_model(host.x, host.sigma, cond={"c_crossattn": [text], "c_concat": [host.image_cond]})
        differences.append((out - params.x).abs().max().item())

    probe.act["cfg_denoised"] = again
    assert generate(sampler_name=sampler_name) == plain
    assert differences
    assert max(differences) == 0


def test_extra_rows_between_cond_and_uncond_change_nothing(generate: Any, probe: Any) -> None:
    kept = {}
    probe.act["cfg_after_cfg"] = lambda params: kept.update(plain=params.x.clone())
    generate(steps=1)

    def insert(params: Any) -> None:
        for name in ("x", "sigma", "image_cond"):
            rows = getattr(params, name)
            setattr(params, name, torch.cat([rows[:1], rows[:1], rows[1:]]))
        params.text_cond = params.text_cond.repeat(2, 1, 1)

    probe.act["cfg_denoiser"] = insert
    probe.act["cfg_after_cfg"] = lambda params: kept.update(extra=params.x.clone())
    generate(steps=1)
    assert torch.allclose(kept["plain"], kept["extra"], atol=1e-3, rtol=1e-4)


def test_exceptions_are_swallowed_everywhere(generate: Any, probe: Any, capsys: pytest.CaptureFixture) -> None:
    plain = generate(steps=1)
    names = sorted(set(probe.log))
    for name in names:
        probe.act.clear()

        def fail(*_args: Any, name: str = name, **_kwargs: Any) -> None:
            raise RuntimeError(f"in {name}")

        probe.act[name] = fail
        assert generate(steps=1) == plain
        assert f"RuntimeError: in {name}" in capsys.readouterr().err
    assert len(names) == 17


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_noise_is_edited_in_place_before_scaling(generate: Any, probe: Any, sampler_name: str) -> None:
    starts = []
    probe.act["process_before_every_sampling"] = lambda p, *_args, noise, **_kwargs: noise.fill_(1.0)
    probe.act["cfg_denoiser"] = lambda params: starts.append((params.x[0].std().item(), params.x[0].mean().item()))
    generate(sampler_name=sampler_name)
    assert starts[0][0] < 1e-5
    assert starts[0][1] == pytest.approx(1.0 if sampler_name == "DDIM" else 14.61, abs=0.01)


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_launch_sampling_can_be_wrapped(generate: Any, probe: Any, sampler_name: str) -> None:
    from modules import sd_samplers_common

    plain = generate(sampler_name=sampler_name)
    launch, stds = sd_samplers_common.Sampler.launch_sampling, []

    def wrapped(self: Any, steps: int, func: Any) -> Any:
        stds.append(self.last_latent.std().item())
        self.last_latent.mul_(0.5)
        return launch(self, steps, func)

    sd_samplers_common.Sampler.launch_sampling = wrapped
    try:
        assert generate(sampler_name=sampler_name) != plain
    finally:
        sd_samplers_common.Sampler.launch_sampling = launch
    assert stds[0] == pytest.approx(1.0 if sampler_name == "DDIM" else 14.6, rel=0.15)
    assert generate(sampler_name=sampler_name) == plain


def test_replaced_sample_fails_the_request_and_the_next_one_works(host: Any, generate: Any, probe: Any) -> None:
    plain = generate()

    def replace(p: Any, *_args: Any) -> None:
        def sample(**_kwargs: Any) -> None:
            raise ValueError("a sentence")

        p.sample = sample

    probe.act["process"] = replace
    with pytest.raises(ValueError, match="a sentence"):
        host.txt2img(**REQUEST)
    probe.act.clear()
    assert generate() == plain


def test_interrupted_exception_in_a_callback_ends_the_sampling(generate: Any, probe: Any) -> None:
    from modules import sd_samplers_common

    def stop(params: Any) -> None:
        if params.denoiser.step == 1:
            raise sd_samplers_common.InterruptedException

    probe.act["cfg_denoiser"] = stop
    assert len(generate(steps=5)) == 1
    assert probe.log.count("cfg_denoiser") == 2
    assert probe.log.count("cfg_denoised") == 1


def test_interrupt_gives_what_there_is_and_skips_later_batches(generate: Any, probe: Any) -> None:
    from modules import shared

    probe.act["cfg_after_cfg"] = lambda params: shared.state.interrupt()
    assert len(generate(steps=5, n_iter=3)) == 1
    assert probe.log.count("cfg_denoiser") == 1
    probe.act.clear()
    assert len(generate(n_iter=2)) == 2


def test_skip_ends_one_batch_only(generate: Any, probe: Any) -> None:
    from modules import shared

    probe.act["cfg_after_cfg"] = lambda params: shared.state.skip()
    assert len(generate(steps=5, n_iter=2)) == 2
    assert probe.log.count("cfg_denoiser") == 2


def test_generation_param_lists_are_indexed_within_the_batch(host: Any, probe: Any) -> None:
    def add(p: Any, *_args: Any) -> None:
        p.extra_generation_params.update(
            {"Each": ["one, 1", "two"], "Made": lambda p, index, **_: f"m{index}", "None": None}
        )

    probe.act["process"] = add
    _, info = host.txt2img(**(REQUEST | {"batch_size": 2, "n_iter": 2}))
    texts = info["infotexts"]
    assert ['Each: "one, 1"' in text for text in texts] == [True, False, True, False]
    assert ["Each: two, Made: m1" in text for text in texts] == [False, True, False, True]
    assert [f"Seed: {7 + i}," in text for i, text in enumerate(texts)] == [True] * 4
    assert info["extra_generation_params"]["Each"] == ["one, 1", "two"]
    assert info["extra_generation_params"]["Made"] is None
    assert info["all_seeds"] == [7, 8, 9, 10]


def test_postprocess_callbacks_can_replace_and_append(host: Any, probe: Any) -> None:
    def invert(p: Any, pp: Any, *_args: Any) -> None:
        pp.image = pp.image.point(lambda value: 255 - value)

    plain = host.txt2img(**REQUEST)[0][0]
    probe.act["postprocess_image"] = invert
    probe.act["postprocess"] = lambda p, processed, *_args: processed.images.append(plain)
    images, _ = host.txt2img(**REQUEST)
    assert images[0].tobytes() == plain.point(lambda value: 255 - value).tobytes()
    assert images[1] is plain
