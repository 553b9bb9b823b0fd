"""One level of a Forge with our modifier: delta counts before its CFG, and nothing of ours is shown to others."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from lib_beyondfacial.hosts.forge.model import ForgeHost
from lib_beyondfacial.hosts.forge.modifier import add_lines
from lib_beyondfacial.hosts.run import Run
from lib_beyondfacial.sampling.plan import IdentityLine, Plan
from lib_beyondfacial.sampling.report import Report
from lib_beyondfacial.settings.parameters import MethodParameters
from lib_beyondfacial.unet.probe import ProbeReading
from tests.forge_double.conditions import Condition, compile_conditions
from tests.forge_double.sampling import KINDS, guide

LINE, SCALE, DELTA = IdentityLine("person", (), ()), 7.0, 0.25
X, SIGMA = torch.zeros(2, 4, 3, 3), torch.full((2,), 5.0)


class Unet:
    """Predicts a row's mean token; its diffusion_model is what the pass began with."""

    diffusion_model = "unet"

    def memory_required(self, shape):
        return 0

    def apply_model(self, x, t, c_crossattn, transformer_options, c_concat=None):
        return c_crossattn.mean((1, 2))[:, None, None, None].expand(x.shape)


class Processing:
    pass


def entry(token: float, strength: float = 1.0) -> dict:
    (compiled,) = compile_conditions(torch.full((2, 7, 5), token))
    return {**compiled, "strength": strength}


@pytest.fixture
def level():
    """level(strengths of the AND parts, **model options) -> (x0 behind the host's CFG, what the pass was given)."""
    p, steps, hosts = Processing(), [], []

    def delta(step, predictions):
        steps.append((step, predictions))
        return torch.full_like(X, DELTA)

    def level(strengths=(1.0,), line_prompt=None, is_inpainting=False, **options):
        run = Run(Plan(MethodParameters(), (LINE,), lambda image: []), weakref.ref(p))
        hosts.append(object.__new__(ForgeHost))
        run.host = hosts[-1]
        run.host.is_tiled = False
        run.host.p, run.host.sampler = p, SimpleNamespace(sampler_extra_args={"cond_scale": SCALE})
        run.host.unet = lambda: Unet.diffusion_model
        run.sampling = SimpleNamespace(
            model_key=Unet.diffusion_model,
            acts=lambda sigma: True,
            active_lines=lambda sigma: (LINE,),
            prompts=SimpleNamespace(lines={} if line_prompt is None else {LINE.name: line_prompt}),
            watched=lambda where: nullcontext(ProbeReading()),
            readings=lambda reading, attached: {},
            sites=(),
            report=Report(),
            delta=delta,
        )
        cond, uncond = [entry(i + 1.0, strength) for i, strength in enumerate(strengths)], [entry(-1.0)]
        if is_inpainting:  # at CFG 1, where the host makes no negative cond
            cond[0]["model_conds"]["c_concat"], uncond = Condition(X), None
        given = (Unet(), X, SIGMA, uncond, cond, SCALE, {"transformer_options": {}, **options}, 1)
        model, x, sigma, uncond, cond, scale, options, _ = add_lines(run, *given)
        return guide(KINDS["forge"], model, x, sigma, uncond, cond, scale, options), steps

    level.host = lambda: hosts[-1]
    return level


@pytest.mark.parametrize(("strengths", "cond"), [((1.0,), 1.0), ((1.0, 0.5), 4 / 3)])
def test_delta_counts_as_if_it_were_before_cfg(level, strengths, cond):
    """The host multiplies its scale by the sum of the strengths."""
    denoised, ((step, predictions),) = level(strengths)
    guidance = SCALE * sum(strengths)
    assert torch.allclose(denoised, torch.full_like(X, -1 + guidance * (cond + DELTA + 1)), atol=1e-4)
    assert step.guidance == pytest.approx(guidance)
    assert torch.allclose(step.denoised, torch.full_like(X, -1 + guidance * (cond + 1)), atol=1e-4)
    assert torch.allclose(predictions.semantic, torch.full_like(X, cond), atol=1e-5)
    assert torch.allclose(predictions.identity[LINE.name], torch.full_like(X, cond), atol=1e-5)
    assert torch.allclose(predictions.uncond, torch.full_like(X, -1.0), atol=1e-5)


def test_a_line_with_a_prompt_of_its_own_leaves_the_hosts_mean_alone(level):
    _, ((_, predictions),) = level((1.0, 0.5), line_prompt=entry(9.0))
    assert torch.allclose(predictions.semantic, torch.full_like(X, 4 / 3), atol=1e-5)
    assert torch.allclose(predictions.identity[LINE.name], torch.full_like(X, 9.0), atol=1e-5)


def test_other_guidance_is_shown_the_hosts_conds_alone(level):
    """PAG, SAG and the like call the model again with what they are shown."""
    shown = []

    def after_cfg(args):
        shown.extend((*args["cond"], *args["uncond"]))
        return args["denoised"]

    level(sampler_post_cfg_function=[after_cfg])
    assert [each["model_conds"].keys() for each in shown] == [{"c_crossattn"}] * 2
    assert [each["strength"] for each in shown] == [1.0, 1.0]


def test_a_cfg_function_is_handed_the_fused_prediction(level):
    denoised, _ = level(sampler_cfg_function=lambda args: args["cond"])
    assert torch.allclose(denoised, torch.full_like(X, 1 + DELTA), atol=1e-5)


def test_an_inpainting_model_is_known_where_there_is_no_negative_cond(level):
    """At CFG 1 the hosts make none; heads must not be cut out of what such a model is shown."""
    level()
    assert not level.host().is_inpainting
    level(is_inpainting=True)
    assert level.host().is_inpainting
