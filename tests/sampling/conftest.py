"""A pass on the host double."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib_beyondfacial.method.predictions import AttentionReadings, Predictions
from lib_beyondfacial.sampling.host import BatchImage, Step
from lib_beyondfacial.sampling.plan import IdentityLine, Plan
from lib_beyondfacial.sampling.report import Report
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from lib_beyondfacial.settings.parameters import MethodParameters
from tests.sampling.host_double import HostDouble

LEVELS = [14.6, 10.0, 5.0, 2.0, 1.0, 0.5, 0.1, 0.03, 0.0]
LINE = "person"
SIZE = (8, 12)  # of the latents
HEAD = (60.0, 20.0, 76.0, 36.0)  # px of a picture of 64 x 96
LARGE = (20.0, 4.0, 76.0, 60.0)
HEAD_COLOUR = 0.5


def make_person(seed: int = 0, gender: str | None = None) -> SimpleNamespace:
    """What a pass reads of an Identity."""
    crop = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    return SimpleNamespace(crop=crop, gender=gender, warnings=[], embedding=np.eye(512)[0])


def find_no_faces(image: np.ndarray) -> list:
    return []


@pytest.fixture
def begin():
    """begin(batch, find_faces, mask_policy, line, host, **parameters) -> a pass whose levels are known."""

    def begin(batch=1, find_faces=find_no_faces, mask_policy=None, line=None, host=None, **parameters) -> SamplingPass:
        host = host or HostDouble()
        given = {"persons": (make_person(),), "injections": (host.injection,), **(line or {})}
        plan = Plan(
            MethodParameters(**{"refine_head": False, "start": 0.0, "idap_strength": 0.5, **parameters}),
            (IdentityLine(LINE, **given),),
            find_faces,
            **({"mask_policy": mask_policy} if mask_policy else {}),
        )
        images = [BatchImage(f"a photo of a man {i}", "ugly", 7 + i) for i in range(batch)]
        sampling = SamplingPass(plan, host, images, Report())
        sampling.levels = LEVELS
        return sampling

    return begin


def face(box=HEAD, similarity=0.5) -> SimpleNamespace:
    embedding, landmarks = similarity * np.eye(512)[0], np.zeros((5, 2))
    return SimpleNamespace(box=np.array(box), landmarks=landmarks, normed_embedding=embedding, gender=None)


def finding(*per_call):
    """find_faces that gives these lists of faces one after the other, the last one for ever; it notes the pictures."""
    pictures: list[np.ndarray] = []

    def find(image):
        pictures.append(image)
        return per_call[min(len(pictures), len(per_call)) - 1]

    find.pictures = pictures
    return find


def drawing() -> HostDouble:
    """A host whose model always predicts one colour."""
    return HostDouble(x0=lambda x, sigma: torch.full_like(x, HEAD_COLOUR))


@pytest.fixture
def refining(begin):
    """refining(find, **of begin) -> a pass at its first level, with refine_head on."""

    def refining(find, host=None, **given):
        sampling = begin(find_faces=find, host=host or drawing(), **{"refine_head": True, **given})
        sampling.acts(14.6)
        return sampling

    return refining


def spot(row=3, column=8, batch=1) -> AttentionReadings:
    """Readings that point at one place."""
    site = torch.full((batch, *SIZE), 0.01)
    site[:, row - 1 : row + 2, column - 1 : column + 2] = 0.4
    return AttentionReadings([site.flatten(1)], [], [site.flatten(1)])


def predict(seed=0, batch=1, readings=None) -> Predictions:
    g = torch.Generator().manual_seed(seed)
    s, i, u = (torch.randn(batch, 4, *SIZE, generator=g) for _ in range(3))
    return Predictions(s, {LINE: i}, {LINE: readings or spot(batch=batch)}, u)


def step_at(sigma: float, predictions: Predictions, cfg_scale=5.0) -> Step:
    """The level as a host with a linear CFG sees it."""
    semantic, uncond = predictions.semantic, predictions.uncond
    return Step(sigma, cfg_scale, cfg_scale, uncond + cfg_scale * (semantic - uncond))


def run_level(sampling: SamplingPass, sigma: float, predictions: Predictions, cfg_scale=5.0) -> torch.Tensor:
    """One level as a host goes through it; its delta."""
    assert sampling.acts(sigma)
    lines = sampling.active_lines(sigma)
    return sampling.delta(step_at(sigma, predictions, cfg_scale), predictions if lines else None)
