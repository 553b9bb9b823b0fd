"""A Forge's batch: whose rows are whose in a call, and what the host gets back in the identity's rows."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from lib_beyondfacial.hosts.forge.batch import SEMANTIC, TAG, UNCOND, Call, Level, Part, capture_wrapper, compose
from lib_beyondfacial.sampling.plan import IdentityLine
from lib_beyondfacial.sampling.report import Report
from lib_beyondfacial.unet.probe import ProbeReading

LINE, BATCH = "person", 2
PARTS = [Part(SEMANTIC, 1.0), Part(SEMANTIC, 0.5), Part(LINE, 1.0), Part(LINE, 0.5), Part(UNCOND)]


@pytest.fixture
def level() -> Level:
    """Two AND parts, each with its identity row, and an uncond; nothing is injected."""
    sampling = SimpleNamespace(watched=lambda where: nullcontext(ProbeReading()), sites=(), report=Report())
    return Level(sampling, (IdentityLine(LINE, (), ()),), BATCH, list(PARTS))


def call_wrapper(level: Level, tags: list[int], out: torch.Tensor) -> torch.Tensor:
    """One UNet call of these tags, in which the UNet answers `out`."""
    x = torch.zeros_like(out)
    label = torch.tensor(tags, dtype=torch.float32).repeat_interleave(BATCH)[:, None]
    given = {"input": x, "timestep": torch.ones(len(x)), "c": {TAG: label}}
    return capture_wrapper(level, None)(lambda x, t: out, given)


def test_identity_rows_go_back_as_zeros_even_where_they_are_nan(level):
    """The host counts them with strength 0, and 0 times NaN is NaN."""
    out = torch.arange(1.0, 11.0)[:, None, None, None].expand(10, 4, 2, 2).clone()
    out[4:6] = float("nan")
    back = call_wrapper(level, [4, 0, 2, 3, 1], out)
    assert torch.equal(back[4:8], torch.zeros(4, 4, 2, 2))
    assert torch.equal(back[:4], out[:4])
    assert torch.equal(back[8:], out[8:])
    assert level.predicted[2].isnan().all(), "the pass itself gets to see it, and refuses it"
    assert torch.equal(level.predicted[3], out[6:8])
    assert level.has_uncond
    assert level.sampling.report.identity_rows == 4


def test_rows_follow_the_calls_order_of_tags(level):
    call = Call(level, [4, 2, 0, 3, 1])
    assert call.line_rows(LINE).rows == [2, 3, 6, 7]
    assert call.line_rows(LINE).images == (0, 1, 0, 1)
    assert call.line_rows(LINE).weights == (1.0, 1.0, 0.5, 0.5)
    assert call.line_rows(UNCOND).rows == slice(0, 2)
    assert Call(level, [4]).line_rows(LINE) is None


def test_and_parts_are_averaged_by_their_strengths():
    parts = [torch.ones(1, 4, 2, 2), 4 * torch.ones(1, 4, 2, 2)]
    assert torch.allclose(compose(parts, [1.0, 0.5]), torch.full((1, 4, 2, 2), 2.0))
    assert torch.allclose(compose(parts, [0.0, 0.0]), torch.full((1, 4, 2, 2), 2.5))
