"""Other extensions beside ours in the Forge-shaped double."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from tests.comparing import almost, same
from tests.contract.forge_case import (
    EVERY_KIND,
    NEUTRAL,
    calls,
    double,
    leaves_nothing,
    models_dir,
    patch_unet,
    photo,
    run,
    zero_mask,
)
from tests.forge_double import sampling

__all__ = ["calls", "double", "leaves_nothing", "models_dir", "photo", "run", "zero_mask"]


def rescale_cfg(unet) -> None:
    """Not linear in cond: the result takes over cond's spread."""

    def function(args):
        mixed = args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"])
        return mixed * args["cond"].std() / mixed.std().clamp(min=1e-6)

    unet.set_model_sampler_cfg_function(function)


def perturbed_attention(unet) -> None:
    def function(args):
        options = {**args["model_options"]}
        transformer = {
            **options["transformer_options"],
            "patches_replace": {"attn1": {("middle", 0): lambda rows: 1.0}},
        }
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


REFERENCE_UNIT = """
def register(unet):
    noted = []

    def note(model, x, timestep, uncond, cond, cond_scale, options, seed):
        noted.append(True)
        return model, x, timestep, uncond, cond, cond_scale, options, seed

    def patch(rows):
        if not noted:
            raise KeyError(("input", 1, 0))
        if rows.count(0) > 1:
            raise RuntimeError("sizes of tensors must match")
        return 0.5

    unet.add_conditioning_modifier(note)
    unet.model_options["transformer_options"]["patches_replace"] = {"attn1": {("middle", 0): patch}}
"""


def own_reference(unet) -> None:
    """A unit that has noted nothing for calls past the modifiers, and knows of one cond only."""
    names: dict = {}
    path = "/webui/extensions-builtin/forge_preprocessor_reference/scripts/forge_reference.py"
    exec(compile(REFERENCE_UNIT, path, "exec"), names)
    names["register"](unet)


NEIGHBOURS = [
    own_reference,
    rescale_cfg,
    perturbed_attention,
    self_attention_guidance,
    own_wrapper,
    own_modifier,
    own_control,
]


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


def test_tiled_sampling_disables_the_identity(double, run, monkeypatch):
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


def test_deep_copied_options_share_one_run(double, run, monkeypatch):
    """Two more clones after ours: still one modifier, and one identity row a level."""
    fused, original = [], SamplingPass.delta

    def counting(*args):
        fused.append(1)
        return original(*args)

    monkeypatch.setattr(SamplingPass, "delta", counting)
    once = run(NEUTRAL)
    count = len(fused)
    patch_unet(double, monkeypatch, lambda unet: None)
    fused.clear()
    assert same(once, run(NEUTRAL))
    assert len(fused) == count
