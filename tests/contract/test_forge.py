"""The Forge family's host adapter inside a Forge-shaped double: the exactness classes of docs/method.md, and every way
in which these hosts build their batches. `pytest tests/contract -k forge`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lib_beyondfacial.hosts import run as host_run
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from tests.comparing import almost, same
from tests.contract.forge_case import (
    EVERY_KIND,
    LONG,
    NEUTRAL,
    SHAPES,
    calls,
    double,
    leaves_nothing,
    models_dir,
    photo,
    run,
    zero_mask,
)
from tests.forge_double import sampling

__all__ = ["calls", "double", "leaves_nothing", "models_dir", "photo", "run", "zero_mask"]


@pytest.mark.parametrize("sampler_name", ["DPM++ 2M", "DDIM"])
def test_zero_mask_leaves_a_hires_picture_though_the_line_runs(run, calls, zero_mask, sampler_name):
    request = {"sampler_name": sampler_name, **SHAPES["hires"]}
    plain = run(**request)
    assert not same(plain, run(NEUTRAL, **request)), "the mask is not zero by itself"
    zero_mask()
    calls.clear()
    assert almost(plain, run(NEUTRAL, **request))
    assert any(tag < 0 for tags in calls for tag in tags), "the identity line did run"


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
def test_low_memory_split_gives_the_same_picture(run, calls, rows, shape):
    whole = run(NEUTRAL, **SHAPES[shape])
    longest = max(map(len, calls))
    calls.clear()
    sampling.free_rows[0] = rows
    split = run(NEUTRAL, **SHAPES[shape])
    assert max(map(len, calls)) < longest
    assert almost(whole, split)


@pytest.mark.parametrize("shape", ["one", "hires"])
def test_hires_passes_are_chosen(run, monkeypatch, shape):
    """What each pass was given of the one before it; a pass that is left out does not begin."""
    given = []

    class Noting(SamplingPass):
        def __init__(self, *args):
            super().__init__(*args)
            given.append({name: tuple(mask.shape[-2:]) for name, mask in args[-1].items()})

    monkeypatch.setattr(host_run, "SamplingPass", Noting)
    passes, pictures = {}, {}
    for choice in ("both", "first", "second"):
        given.clear()
        pictures[choice] = run(NEUTRAL | {"hires_pass": choice}, **{**SHAPES[shape], "n_iter": 1})
        passes[choice] = list(given)
    assert passes["first"] == [{}]
    if shape == "one":
        assert passes["both"] == passes["second"] == [{}]
        assert same(pictures["both"], pictures["first"])
        return
    assert passes["both"][0] == {}
    assert passes["both"][-1] == {"person": (8, 8)}
    assert passes["second"][-1] == {}
    plain = run(None, **{**SHAPES[shape], "n_iter": 1})
    for one, other in itertools.combinations([plain, *pictures.values()], 2):
        assert not same(one, other)


def test_prompts_of_very_different_lengths_get_separate_calls(run, calls):
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


def test_stride_evaluates_the_identity_line_at_every_kth_level(run, calls):
    plain = run()
    run(NEUTRAL)
    every = len(calls)
    calls.clear()
    strided = run(NEUTRAL | {"stride": 2})
    assert len(calls) == -(-every // 2)
    assert not same(plain, strided)


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
