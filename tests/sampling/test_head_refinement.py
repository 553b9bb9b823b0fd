"""Head refinement of a pass without a web UI: when, of which heads, and what prevents it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lib_beyondfacial.method import head_refinement as eq
from lib_beyondfacial.method.predictions import Predictions
from lib_beyondfacial.sampling.crops import REDRAWING
from lib_beyondfacial.sampling.head_refinement import LOOKING
from tests.sampling.conftest import (
    HEAD,
    HEAD_COLOUR,
    LARGE,
    LINE,
    SIZE,
    drawing,
    face,
    finding,
    predict,
    run_level,
    step_at,
)
from tests.sampling.host_double import HostDouble

CENTRE = (0, slice(None), 3, 8)  # the latents in the middle of HEAD


def drawable(predictions: Predictions) -> Predictions:
    """The predictions, so small that the autoencoder's double shows all of them."""

    def shrunk(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.02 * x[:, :3], 0.02 * x[:, :3].mean(1, keepdim=True)], 1)

    identity = {name: shrunk(x) for name, x in predictions.identity.items()}
    return Predictions(shrunk(predictions.semantic), identity, predictions.readings, shrunk(predictions.uncond))


def behind_cfg(sampling, sigma, predictions, cfg_scale=5.0):
    """x0 behind CFG with the method's delta in it."""
    delta = run_level(sampling, sigma, predictions, cfg_scale)
    return step_at(sigma, predictions, cfg_scale).denoised + cfg_scale * delta


def ellipse() -> torch.Tensor:
    return eq.elliptical_mask(eq.crop_around(HEAD, (64, 96)), (64, 96), SIZE)[0]


def test_head_is_refined_once_and_then_the_line_rests(refining):
    find = finding([face()])
    sampling, predictions = refining(find), drawable(predict())
    run_level(sampling, 14.6, predictions)
    run_level(sampling, 5.0, predictions)
    assert not find.pictures
    assert not sampling.host.calls
    after = behind_cfg(sampling, 1.5, predictions)
    assert sampling.report.refined == {"person": (True,)}
    assert [call.rows for call in sampling.host.calls] == [2, 2, 2, 1, 1], "with the prompt and without, in one call"
    assert torch.allclose(after[CENTRE], torch.tensor(HEAD_COLOUR), atol=0.05)
    inside = (slice(None), slice(None), *(ellipse() == 1).nonzero(as_tuple=True))
    assert torch.allclose(after[inside], sampling.refinement.heads.denoised[inside], atol=1e-4)
    assert torch.equal(sampling.report.masks[LINE][0, 0], ellipse())
    assert sampling.active_lines(1.0) == ()
    later = drawable(predict(1))
    assert torch.allclose(behind_cfg(sampling, 1.0, later)[CENTRE], torch.tensor(HEAD_COLOUR), atol=0.05)
    assert not sampling.delta(step_at(0.5, later), None)[0][:, ellipse() == 0].any()
    assert len(find.pictures) == 2, "before the refinement and after it"


def test_heads_that_are_held_to_the_end_are_kept_for_the_finished_picture(refining):
    sampling, predictions = refining(finding([face()])), predict()
    run_level(sampling, 1.5, predictions)
    drawn = sampling.report.drawn[LINE, 0]
    assert (drawn.crop, drawn.size, drawn.image) == (eq.crop_around(HEAD, (64, 96)), (64, 96), 0)
    assert drawn.pixels.shape == (3, 64, 64)
    assert drawn.strength == 1.0
    run_level(sampling, 1.0, predictions)
    assert sampling.report.drawn == {(LINE, 0): drawn}
    sampling.report.begin_pass(is_later=True)
    assert not sampling.report.drawn, "a later pass draws its own"


@pytest.mark.parametrize("ends", ["the window", "the model"])
def test_heads_that_are_not_held_to_the_end_are_the_hosts(refining, ends):
    sampling = refining(finding([face()]), stop=0.8)
    run_level(sampling, 1.5, predict())
    assert sampling.report.drawn
    if ends == "the model":
        sampling.host.key = object()
    assert not sampling.acts(1.5 if ends == "the model" else 0.03)
    assert not sampling.report.drawn


def test_what_the_autoencoder_loses_is_added_again(refining):
    host = drawing()
    host.lost = 0.2
    after = behind_cfg(refining(finding([face()]), host=host), 1.5, drawable(predict()))
    assert torch.allclose(after[CENTRE], torch.tensor(HEAD_COLOUR), atol=0.05)


def test_less_similar_head_is_not_kept(refining):
    sampling, predictions = refining(finding([face(similarity=0.6)], [face(similarity=0.4)])), predict()
    plain = refining(finding([]), refine_head=False)
    for sigma in (1.5, 1.0, 0.5):
        assert torch.equal(run_level(sampling, sigma, predictions), run_level(plain, sigma, predictions))
    assert sampling.report.refined == {"person": (False,)}
    (warning,) = sampling.report.warnings
    assert "picture 1 of 1 was less similar" in warning
    assert not sampling.report.drawn
    assert len(sampling.host.calls) == eq.STEPS, "there is one attempt at each head"


def test_batch_is_refined_head_by_head(refining):
    """The first picture's head is found at the first attempt, the second one's at the second."""
    sampling = refining(finding([face()], [], [face()]), batch=2)  # the third call looks at the refined picture
    predictions = predict(batch=2)
    run_level(sampling, 1.5, predictions)
    assert sampling.report.refined == {"person": (True, False)}
    assert sampling.active_lines(1.6), "the second picture still needs the line"
    first = sampling.refinement.heads.denoised[0].clone()
    run_level(sampling, 1.0, predictions)
    assert sampling.report.refined == {"person": (True, True)}
    assert torch.equal(sampling.refinement.heads.denoised[0], first)
    assert not sampling.active_lines(0.5)
    assert not sampling.report.warnings


def test_no_face_is_looked_for_at_three_levels(refining):
    find = finding([])
    sampling, predictions = refining(find, batch=2), predict(batch=2)
    plain = refining(finding([]), batch=2, refine_head=False)
    for sigma in (14.6, 2.0, 1.5, 1.1, 0.9, 0.5, 0.1):
        assert torch.equal(run_level(sampling, sigma, predictions), run_level(plain, sigma, predictions))
    assert len(find.pictures) == 3 * 2, "at 1.5, 0.9 and 0.5"
    assert not any(sampling.report.refined["person"])
    assert not any(sampling.report.batch.found_head(LINE, image) for image in range(2)), "shortfalls.py tells of it"


def test_a_head_that_fills_the_picture_is_left_as_it_is(refining):
    find = finding([face(LARGE)])
    sampling, predictions = refining(find), predict()
    plain = refining(finding([]), refine_head=False)
    for sigma in (1.5, 1.0, 0.5):
        assert torch.equal(run_level(sampling, sigma, predictions), run_level(plain, sigma, predictions))
    assert len(find.pictures) == 1
    assert sampling.active_lines(0.1)
    assert not sampling.report.warnings


@pytest.mark.parametrize("changes", [{"refine_head": False}, {"mask_mode": "whole"}])
def test_no_refinement_unless_asked_for_and_adaptive(refining, changes):
    find = finding([face()])
    sampling = refining(find, **changes)
    run_level(sampling, 1.5, predict())
    assert not find.pictures
    assert [each.size for each in sampling.host.encoded] == [], "and its prompts are not encoded"


def test_refinement_has_close_up_prompts_at_the_crops_size(refining):
    sampling = refining(finding([face()]))
    run_level(sampling, 1.5, predict())
    cond, uncond = sampling.host.encoded
    assert cond.texts == ("close-up portrait, a photo of a man 0",)
    assert uncond.texts == ("ugly",)
    assert cond.size == uncond.size == (64, 64)
    first = sampling.host.calls[0]
    assert first.cond.texts == cond.texts + uncond.texts
    assert (first.rows, first.injected, first.is_crop) == (2, True, True)
    (where, weight), *_ = sampling.host.injection.attachments
    assert (where.rows, where.images, weight) == (slice(0, 1), (0,), 1.3)
    assert [call.sigma for call in sampling.host.calls] == sampling.host.law.refine_sigmas()[:-1]


def test_refinements_cfg_is_at_most_four_and_one_at_low_noise(refining):
    """cond 0.2 and uncond 0 at CFG 7: x0 is 0.8, where the picture's own scale would make 1.4 of it."""
    host = HostDouble()
    host.joins = False
    host.x0 = lambda x, sigma: torch.full_like(x, 0.2 if host.injection.is_attached else 0.0)
    sampling = refining(finding([face()]), host=host)
    after = behind_cfg(sampling, 1.5, drawable(predict()), 7.0)
    assert torch.allclose(after[CENTRE], torch.tensor(0.2), atol=0.05), "the last step has no CFG"
    x0 = sampling.refinement.crop_predictor([("person", 0)], 7.0, may_join=False)
    crop = torch.zeros(1, 4, 8, 8)
    assert [x0(crop, sigma).mean().item() for sigma in (5.0, 2.0, 1.9)] == pytest.approx([0.8, 0.8, 0.2])


def test_refinement_is_seeded_and_draws_no_host_numbers(refining):
    def noisy(seed):
        host = HostDouble(x0=lambda x, sigma: (0.1 * x).clamp(-1, 1))
        sampling = refining(finding([face()]), host=host)
        sampling.refinement.images = [SimpleNamespace(seed=seed)]
        run_level(sampling, 1.5, predict())
        return sampling.refinement.heads.denoised

    state = torch.get_rng_state()
    one, again, other = noisy(7), noisy(7), noisy(8)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-3)


def test_unet_is_loaded_before_and_after_it_draws(refining):
    sampling = refining(finding([face()]))
    run_level(sampling, 1.5, predict())
    order = sampling.host.order
    first = order.index("predict")
    assert order[:first] == ["decode", "encode", "load_unet"]
    assert order[first:] == ["predict"] * eq.STEPS + ["decode", "encode", "encode", "load_unet"]


def test_the_refinement_tells_what_it_does(refining):
    sampling = refining(finding([face()]))
    run_level(sampling, 5.0, predict())
    assert sampling.host.progress == []
    run_level(sampling, 1.5, predict())
    steps = [REDRAWING.format(n, eq.STEPS) for n in range(1, eq.STEPS + 1)]
    assert sampling.host.progress == [LOOKING, *steps, ""]
