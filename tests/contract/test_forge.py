"""The seam to the Forge family, inside a Forge-shaped double: the exactness classes of docs/method.md, and every way
in which these hosts build their batches. `pytest tests/contract -k forge`."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from fastapi import HTTPException

from demo.miniwebui.host import REPOSITORY
from tests.forge_double import sampling
from tests.forge_double.host import ForgeDenoiser, booted
from tests.webui.conftest import models_dir, photo

__all__ = ["models_dir", "photo"]

SAMPLERS = ["Euler a", "DPM++ 2M", "DDIM"]
LONG = "a photo of man in the red house, " * 12
REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5}
NEUTRAL = {"idap_strength": 0.0, "start": 0.0}
SHAPES = {
    "one": {},
    "batch": {"batch_size": 2},
    "cfg 1": {"cfg_scale": 1.0},
    "AND": {"prompt": "a photo AND face :0.5"},
    "AND batch": {"prompt": "a photo AND face :0.5", "batch_size": 2},
    "long prompt": {"prompt": LONG},
    "hires": {"enable_hr": True, "n_iter": 2},
}
ALMOST = 1  # levels of 255: an extra row changes the batch, and with it rounding (1e-4 of the latents)


EVERY_KIND = pytest.mark.parametrize("double", ["forge", "reforge", "classic"], indirect=True, scope="module")
SHAPES_AND_SAMPLERS = [(shape, "Euler a") for shape in SHAPES]
SHAPES_AND_SAMPLERS += [(shape, name) for shape in ("one", "AND batch", "hires") for name in ("DPM++ 2M", "DDIM")]


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
            args = {"enabled": True, "references": [photo], "adapter": "fits", **unit}
            payload["alwayson_scripts"] = {"BeyondFacial": {"args": [args]}}
        images = double.inpaint(**payload) if inpaint else double.host.txt2img(**payload)[0]
        return [np.asarray(image) for image in images]

    return run


@pytest.fixture(autouse=True)
def leaves_nothing(double):
    """After every test: no modifier, option, hook or memory of ours in the host, whatever happened."""
    unet, before = double.model.forge_objects_original.unet, hooks_on(double)
    yield
    sampling.free_rows[0] = 10**9
    assert hooks_on(double) == before
    for objects in (double.model.forge_objects, double.model.forge_objects_after_applying_lora):
        assert not [m for m in objects.unet.model_options.get("conditioning_modifiers", []) if hasattr(m, "run")]
        assert objects.unet.extra_preserved_memory_during_sampling == 0
    assert double.model.forge_objects_original.unet is unet
    assert unet.model_options == {"transformer_options": {}}
    assert not double.model.forge_objects.vae.patcher.model_options


@pytest.fixture
def calls(monkeypatch):
    """The tags of every UNet call's rows."""
    from lib_beyondfacial.hosts import forge_lines

    seen, original = [], forge_lines.Call.run

    def noting(self, *args):
        seen.append(self.tags)
        return original(self, *args)

    monkeypatch.setattr(forge_lines.Call, "run", noting)
    return seen


@pytest.fixture
def zero_mask(monkeypatch):
    """Force the mask to zero from now on; the identity line still runs."""
    from lib_beyondfacial.method import decision

    original = decision.compute_decision

    def force():
        monkeypatch.setattr(decision, "compute_decision", lambda *a, **k: 0 * original(*a, **k))

    return force


def hooks_on(double) -> int:
    unet = double.model.forge_objects_original.unet.model.diffusion_model
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())


def same(a, b) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def almost(a, b) -> bool:
    return len(a) == len(b) and all(np.abs(x.astype(int) - y).max() <= ALMOST for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("sampler_name", SAMPLERS)
@pytest.mark.parametrize(
    "unit",
    [{"enabled": False}, {"weight": 0.0}, {"mask_strength": 0.0}, {"start": 0.99, "stop": 1.0}],
    ids=["disabled", "weight 0", "mask strength 0", "outside the window"],
)
def test_where_the_identity_may_not_act_no_row_of_it_runs_and_the_picture_is_the_hosts(run, calls, sampler_name, unit):
    plain = run(sampler_name=sampler_name, batch_size=2)
    assert same(plain, run(unit, sampler_name=sampler_name, batch_size=2))
    assert not calls


@pytest.mark.parametrize(("shape", "sampler_name"), SHAPES_AND_SAMPLERS)
def test_under_a_zero_mask_the_identity_line_runs_and_the_picture_stays(run, calls, zero_mask, sampler_name, shape):
    request = {"sampler_name": sampler_name, **SHAPES[shape]}
    plain = run(**request)
    changed = run(NEUTRAL, **request)
    assert not same(plain, changed), "the mask is not zero by itself, or this test would prove nothing"
    assert same(changed, run(NEUTRAL, **request))
    zero_mask()
    calls.clear()
    forced = run(NEUTRAL, **request)
    assert any(tag < 0 for tags in calls for tag in tags), "the identity line did run"
    assert almost(plain, forced)


@EVERY_KIND
@pytest.mark.parametrize("shape", SHAPES)
def test_every_host_of_the_family_gets_the_same_line(run, calls, zero_mask, shape):
    plain, changed = run(**SHAPES[shape]), run(NEUTRAL, **SHAPES[shape])
    assert not same(plain, changed)
    zero_mask()
    assert almost(plain, run(NEUTRAL, **SHAPES[shape]))
    assert any(tag < 0 for tags in calls for tag in tags)


@pytest.mark.parametrize(
    ("rows", "shape"), [(1, "one"), (2, "one"), (1, "AND"), (3, "AND"), (1, "hires"), (2, "batch")]
)
def test_when_memory_is_short_the_host_splits_the_batch_and_the_picture_is_the_same(run, calls, rows, shape):
    whole = run(NEUTRAL, **SHAPES[shape])
    longest = max(map(len, calls))
    calls.clear()
    sampling.free_rows[0] = rows
    split = run(NEUTRAL, **SHAPES[shape])
    assert max(map(len, calls)) < longest
    assert almost(whole, split)


def test_prompts_of_very_different_lengths_go_in_calls_of_their_own(run, calls):
    assert run(NEUTRAL, prompt=LONG * 3)
    assert [0] in calls
    assert [-1, 1] in calls


def test_each_and_part_has_its_identity_row(run, calls):
    run(NEUTRAL, prompt="a photo AND face :0.5")
    assert [0, -2, -1, 2, 1] in calls


def test_an_identity_prompt_is_the_identity_lines_own(run, calls):
    plain = run(NEUTRAL)
    calls.clear()
    other = run(NEUTRAL | {"id_prompt": "{prompt}, red hair, " + LONG})
    assert not same(plain, other)
    assert {tag for tags in calls for tag in tags} == {0, 1, -1}


def test_the_row_is_announced_to_the_hosts_memory_management(double, run, monkeypatch):
    announced, original = [], sampling.sampling_prepare

    def noting(unet, x):
        original(unet, x)
        announced.append(unet.loaded_with)

    monkeypatch.setattr(sampling, "sampling_prepare", noting)
    run(NEUTRAL)
    run()
    assert announced[0] > 0
    assert announced[-1] == 0


def test_a_batch_is_each_of_its_pictures_alone(run):
    unit = NEUTRAL | {"mask_mode": "whole"}
    both = run(unit, batch_size=2)
    assert almost([both[1]], run(unit, seed=REQUEST["seed"] + 1))


def test_stride_evaluates_the_identity_line_at_every_kth_level(run, calls):
    plain = run()
    run(NEUTRAL)
    every = len(calls)
    calls.clear()
    strided = run(NEUTRAL | {"stride": 2})
    assert len(calls) == -(-every // 2)
    assert not same(plain, strided)


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_idap_strength_zero_leaves_the_hosts_noise_and_more_changes_the_picture(run, sampler_name):
    plain = run(sampler_name=sampler_name)
    assert almost(plain, run({"idap_strength": 0.0, "rho": 0.0}, sampler_name=sampler_name))
    assert not almost(plain, run({"idap_strength": 0.5, "rho": 0.0}, sampler_name=sampler_name))


def test_another_scripts_noise_is_kept_where_it_is_edited(double, run, monkeypatch):
    """A script that replaces the start through `modified_noise`: the edit goes onto that one."""
    from demo.miniwebui import processing

    original = processing.StableDiffusionProcessingTxt2Img.begin_pass

    def begin_pass(self, x, noise, c, uc, thrown_away=False):
        original(self, x, noise, c, uc, thrown_away)
        return torch.randn(noise.shape, generator=torch.Generator().manual_seed(99))

    monkeypatch.setattr(processing.StableDiffusionProcessingTxt2Img, "begin_pass", begin_pass)
    plain, edited = run(), run({"idap_strength": 0.5, "rho": 0.0})
    difference = np.abs(plain[0].astype(int) - edited[0])
    assert 0 < difference.mean() < 40


def test_inpainting_keeps_its_start_and_its_kept_half(run):
    plain = run(inpaint=True)
    assert almost(plain, run({"idap_strength": 0.5, "rho": 0.0}, inpaint=True)), "only noise is prepended to"
    changed = run(NEUTRAL | {"mask_mode": "whole"}, inpaint=True)
    assert not same(plain, changed)


def test_the_mask_comes_back_for_every_image_and_pass(run):
    images = run(NEUTRAL | {"show_mask": True}, batch_size=2, n_iter=2)
    assert len(images) == 8
    assert all(image.shape == images[0].shape for image in images)
    assert any(mask.max() > 0 for mask in images[4:])


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


def rescale_cfg(unet) -> None:
    """Not linear in cond: the result takes over cond's spread."""

    def function(args):
        guided = args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"])
        return guided * args["cond"].std() / guided.std().clamp(min=1e-6)

    unet.set_model_sampler_cfg_function(function)


def perturbed_attention(unet) -> None:
    def function(args):
        options = {**args["model_options"]}
        transformer = {**options["transformer_options"], "patches_replace": {"attn1": {("middle", 0): True}}}
        options["transformer_options"] = transformer
        worse, _ = sampling.calc_cond_uncond_batch(
            args["model"], args["cond"], None, args["input"], args["sigma"], options
        )
        return args["denoised"] + 3 * (args["cond_denoised"] - worse)

    unet.set_model_sampler_post_cfg_function(function)


def self_attention_guidance(unet) -> None:
    """Blurs the unconditional prediction and comes back to the model with the uncond alone."""

    def function(args):
        blurred = torch.nn.functional.avg_pool2d(args["uncond_denoised"], 3, 1, 1)
        x = blurred + args["input"] - args["uncond_denoised"]
        worse, _ = sampling.calc_cond_uncond_batch(
            args["model"], args["uncond"], None, x, args["sigma"], args["model_options"]
        )
        return args["denoised"] + 0.5 * (blurred - worse)

    unet.set_model_sampler_post_cfg_function(function, disable_cfg1_optimization=True)


def own_wrapper(unet) -> None:
    unet.set_model_unet_function_wrapper(
        lambda apply, args: 1.01 * apply(args["input"], args["timestep"], **args["c"])
    )


def own_modifier(unet) -> None:
    """Asks the model itself, with the conds it is shown, as reference-only units do."""

    def modifier(model, x, timestep, uncond, cond, cond_scale, options, seed):
        sampling.calc_cond_uncond_batch(model, cond, None, x, timestep, options)
        return model, x, timestep, uncond, cond, cond_scale * 1.1, options, seed

    unet.add_conditioning_modifier(modifier)


def own_control(unet) -> None:
    class Control:
        previous_controlnet = None

        def get_control(self, x, t, cond, batched_number):
            assert "c_crossattn" in cond
            assert len(x) % batched_number == 0
            return 0.05 * x / x.std()

    unet.controlnet_linked_list = Control()


NEIGHBOURS = [rescale_cfg, perturbed_attention, self_attention_guidance, own_wrapper, own_modifier, own_control]


@EVERY_KIND
@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=lambda f: f.__name__)
def test_other_extensions_do_their_part_beside_ours(double, run, zero_mask, monkeypatch, neighbour):
    alone = run()
    patch_unet(double, monkeypatch, neighbour)
    plain = run()
    assert not same(alone, plain), "the neighbour does something"
    both = run(NEUTRAL)
    assert not same(plain, both)
    zero_mask()
    assert almost(plain, run(NEUTRAL)), "and does the same beside an identity line that adds nothing"


def test_the_fusion_is_before_guidance_that_is_not_linear(double, run, monkeypatch):
    """Guidance sees D_s + delta: under a guidance that returns cond alone, scale and delta must not multiply."""

    def cond_alone(unet):
        unet.set_model_sampler_cfg_function(lambda args: args["cond"])

    at_cfg_1 = run(NEUTRAL | {"mask_mode": "whole"}, cfg_scale=1.0)
    patch_unet(double, monkeypatch, cond_alone)
    assert almost(at_cfg_1, run(NEUTRAL | {"mask_mode": "whole"}, cfg_scale=7.0))


def test_tiled_sampling_is_stood_aside_from_and_said(double, run, monkeypatch):
    def tiles(apply, args):
        parts = [apply(x, args["timestep"], **args["c"]) for x in args["input"].chunk(2, dim=-1)]
        return torch.cat(parts, -1)

    class MultiDiffusion:
        def __call__(self, apply, args):
            return tiles(apply, args)

    for wrapper in (tiles, MultiDiffusion()):
        with monkeypatch.context() as patch:
            patch_unet(double, patch, lambda unet, w=wrapper: unet.set_model_unet_function_wrapper(w))
            plain = run()
            beside = run(NEUTRAL)
            assert almost(plain, beside)


def test_the_refiner_ends_the_identity_and_it_is_said(double, run, photo, monkeypatch):
    from demo.miniwebui import shared
    from tests.forge_double.patcher import ForgeModel

    first, schedule = double.model, "predictor" if ForgeDenoiser.kind.backend else "model_sampling"
    second = ForgeModel(first._model, schedule)
    second.forge_objects.unet.model.diffusion_model = copy.deepcopy(first.forge_objects.unet.model.diffusion_model)
    unit = {"enabled": True, "references": [photo], "adapter": "fits", **NEUTRAL}
    payload = {**REQUEST, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}}
    try:
        monkeypatch.setattr(ForgeDenoiser, "refiner", (2, second))
        info = double.host.txt2img(**payload)[1]
    finally:
        shared.sd_model = first
    assert "refiner took over" in str(info["extra_generation_params"])
    assert "conditioning_modifiers" not in second.forge_objects.unet.model_options


@EVERY_KIND
@pytest.mark.parametrize("request_extra", [{}, {"enable_hr": True}], ids=["one", "hires"])
def test_an_exception_in_the_identity_line_fails_the_request_and_leaves_nothing(run, monkeypatch, request_extra):
    from lib_beyondfacial.adapters.branch import IdentityBranch

    plain = run(**request_extra)
    with monkeypatch.context() as broken:
        broken.setattr(IdentityBranch, "attend", lambda *a: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            run(NEUTRAL, **request_extra)
    assert same(plain, run(**request_extra))


@pytest.mark.parametrize("broken_part", ["edit_start", "register", "make_pass", "tiler_on", "wrap_launch"])
def test_an_exception_before_sampling_fails_the_request_and_leaves_nothing(run, monkeypatch, broken_part):
    from lib_beyondfacial.hosts import forge

    plain = run()
    with monkeypatch.context() as broken:
        broken.setattr(forge, broken_part, lambda *a: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            run({"start": 0.0})
    assert same(plain, run())


def test_nan_in_the_identity_line_fails_in_words_and_never_reaches_the_pictures_rows(run, monkeypatch):
    from lib_beyondfacial.adapters.branch import IdentityBranch

    plain, original = run(), IdentityBranch.attend
    with monkeypatch.context() as broken:
        broken.setattr(IdentityBranch, "attend", lambda *a: original(*a) * float("nan"))
        with pytest.raises(HTTPException) as raised:
            run(NEUTRAL | {"mask_mode": "whole"})
    assert raised.value.status_code == 422
    assert "NaN" in raised.value.detail
    assert same(plain, run())


def test_an_interrupt_leaves_nothing(run, monkeypatch):
    from demo.miniwebui import shared
    from lib_beyondfacial.hosts import forge_pass

    plain, original = run(), forge_pass.compute

    def compute_then_interrupt(*args):
        shared.state.interrupted = True
        return original(*args)

    with monkeypatch.context() as pressed:
        pressed.setattr(forge_pass, "compute", compute_then_interrupt)
        run(NEUTRAL)
    assert same(plain, run())


def test_a_replaced_unet_in_which_no_site_fires_is_an_error_in_words(run, monkeypatch):
    from lib_beyondfacial.hosts import unet_sites

    monkeypatch.setattr(unet_sites.BranchHooks, "attach", lambda self: [])
    with pytest.raises(HTTPException) as raised:
        run(NEUTRAL | {"mask_mode": "whole"})
    assert "TensorRT" in raised.value.detail


def test_options_that_the_host_deep_copies_hold_one_run_not_copies_of_it(double, run, monkeypatch):
    """Two more clones after ours: still one modifier, and one identity row a level."""
    from lib_beyondfacial.hosts import forge_pass

    fused, original = [], forge_pass.compute

    def counting(*args):
        fused.append(1)
        return original(*args)

    monkeypatch.setattr(forge_pass, "compute", counting)
    once = run(NEUTRAL)
    count = len(fused)
    patch_unet(double, monkeypatch, lambda unet: None)
    fused.clear()
    assert same(once, run(NEUTRAL))
    assert len(fused) == count


def test_sd3_and_flux_are_refused_in_words(double, run, monkeypatch):
    for flag, kind in (("is_sd3", "SD3"), ("is_sd2", "SD2"), ("is_flux", "Flux")):
        with monkeypatch.context() as other:
            other.setattr(type(double.model), flag, True, raising=False)
            with pytest.raises(HTTPException) as raised:
                run(NEUTRAL)
        assert kind in raised.value.detail
