"""Many requests on both kinds of host: interrupted or skipped at every level, and two hundred in a row."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from tests.comparing import same

REQUEST = {"prompt": "a photo of man", "steps": 10, "width": 64, "height": 64, "seed": 5}
SAMPLERS = ["Euler a", "DPM++ 2M", "DDIM"]
HIRES = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.7}
LEVELS = 24  # more than any pass of these requests has
GENERATIONS, WARM_UP, WINDOW, GROWTH = 200, 20, 20, 30  # requests; MB

pytestmark = pytest.mark.slow


@pytest.fixture
def ask(any_host, photo):
    """ask(is_on, **request) -> the pictures."""

    def ask(is_on: bool = True, **request):
        unit = {"enabled": is_on, "references": [photo], "adapter": "fits", "start": 0.0}
        scripts = {"BeyondFacial": {"args": [unit]}}
        return any_host.txt2img(**{**REQUEST, **request, "alwayson_scripts": scripts})[0]

    return ask


def resident_megabytes() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("sampler_name", SAMPLERS)
@pytest.mark.parametrize("key", ["interrupted", "skipped"])
def test_every_level_can_be_the_last(ask, any_host, request, monkeypatch, key, sampler_name):
    from modules import shared

    is_forge = "forge" in request.node.callspec.id
    more = {"sampler_name": sampler_name, **(HIRES if is_forge else {})}  # the miniature host has no hires fix
    plain, original = ask(False, **more), SamplingPass.delta
    for last in range(LEVELS):
        asked = []

        def delta(*args, last=last, asked=asked):
            asked.append(args)
            if len(asked) == last + 1:
                setattr(shared.state, key, True)
            return original(*args)

        with monkeypatch.context() as pressed:
            pressed.setattr(SamplingPass, "delta", delta)
            assert len(ask(**more)) == 1
        assert same(plain, ask(False, **more)), f"after {key} at level {last}"
        if len(asked) <= last:
            break
    else:
        pytest.fail("the request has more levels than were tried")


@pytest.mark.timeout(3600)  # a few minutes where nothing else runs
def test_memory_does_not_grow(ask):
    sizes = []
    for i in range(GENERATIONS):
        ask(seed=i, steps=4, batch_size=1 + i % 2, sampler_name=SAMPLERS[i % len(SAMPLERS)])
        sizes.append(resident_megabytes())
    grown = min(sizes[-WINDOW:]) - min(sizes[WARM_UP : WARM_UP + WINDOW])
    assert grown < GROWTH, f"{grown:.1f} MB in {GENERATIONS - WARM_UP} requests"
