"""Every stage: stopped and resumed it is the unbroken run, bit for bit; with a budget it ends in time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from demo.dollhouse.train import run as runs
from demo.dollhouse.train.all import SHORT, STAGES, run_chain
from demo.dollhouse.train.run import Budget, Plan, Run

from .conftest import make_place

TRAINED = [stage for stage in STAGES if stage.plans]


@pytest.fixture
def ticking(monkeypatch) -> SimpleNamespace:
    """A clock that moves one second each time it is asked: twice a step."""
    clock = SimpleNamespace(now=0.0)

    def monotonic() -> float:
        clock.now += 1
        return clock.now

    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=monotonic))
    return clock


def assert_equal(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for k in a:
            assert_equal(a[k], b[k])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("stage", TRAINED, ids=lambda stage: stage.name)
def test_resumed_is_unbroken(stage, chain, elsewhere, ticking):
    torch.manual_seed(99)  # whatever was drawn before does not matter
    assert not stage.work(elsewhere, SHORT[stage.name], Budget(call_ends=ticking.now + 3), **stage.options)
    broken = list(elsewhere.cache.glob("run_*.pt"))
    assert len(broken) == 1
    assert torch.load(broken[0], weights_only=True)["step"] == 1
    assert stage.work(elsewhere, SHORT[stage.name], **stage.options)
    for path in elsewhere.cache.glob("run_*.pt"):
        found, reference = (torch.load(p, weights_only=True) for p in (path, chain.cache / path.name))
        found["spent"] = reference["spent"] = 0
        assert_equal(found, reference)
    for path in chain.out.rglob("*.safetensors"):
        assert path.read_bytes() == (elsewhere.out / path.relative_to(chain.out)).read_bytes(), path.name


def small_run(place, steps: int = 500) -> tuple[Run, torch.nn.Linear]:
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    return Run(place, "line", model, Plan(steps, 1, 0.05)), model


def line_loss(model):
    def loss_of(batch, generator):
        x = torch.randn(16, 2, generator=generator) + float(batch)
        return ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()

    return loss_of


def test_a_budget_shortens_the_run_and_its_schedule(tmp_path, ticking):
    run, model = small_run(make_place(tmp_path))
    assert run.train(line_loss(model), lambda rng: rng.normal(), Budget(stage=200))
    assert 90 <= run.step <= 101  # two seconds a step
    assert run.steps == run.step
    assert run.optimizer.param_groups[0]["lr"] < 0.05 * 0.03  # the schedule came to its end with it


def test_a_budget_never_lengthens_it(tmp_path, ticking):
    run, model = small_run(make_place(tmp_path), steps=30)
    assert run.train(line_loss(model), lambda rng: rng.normal(), Budget(stage=1e6))
    assert run.step == 30


def test_the_average_is_what_is_used(tmp_path):
    run, model = small_run(make_place(tmp_path))
    run.train(line_loss(model), lambda rng: rng.normal())
    last = model.weight.detach().clone()
    run.use_ema()
    assert not torch.equal(last, model.weight)
    assert (model.weight - 1).abs().max() < 0.02


def test_a_call_that_has_no_time_left_changes_nothing(tmp_path):
    place = make_place(tmp_path)
    assert not run_chain(place, SHORT, minutes=0.5, calls=3)
    assert not list(place.cache.glob("run_*.pt"))
