"""A failed request reaches the UI on hosts whose main thread drops what its tasks raise."""

from __future__ import annotations

import copy
import weakref

import pytest

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.hosts import request
from lib_beyondfacial.hosts.run import ATTRIBUTE, Run
from lib_beyondfacial.sampling.plan import Plan
from lib_beyondfacial.settings.parameters import MethodParameters


class Task:
    """What reForge's and Classic's main thread works on: a result, and no word of an exception."""

    def __init__(self, func):
        self.task_id, self.func, self.result = 1, func, None

    def work(self):
        self.result = self.func()


class TellingTask(Task):
    """Forge's keeps the exception, and the UI asks for it."""

    exception = None


class Processing:
    def sample(self):
        return ["a picture"]


def failing_ui_request():
    p = Processing()
    request.fail(p, "The photo shows no face.")
    return p


def test_ui_gets_the_message_where_the_task_loses_it():
    task = Task(lambda: failing_ui_request().sample())
    with pytest.raises(BeyondFacialError, match="no face"):
        task.work()
    with pytest.raises(BeyondFacialError, match="no face"):
        list(task.result)


def test_task_that_keeps_its_exception_is_left_alone():
    task = TellingTask(lambda: failing_ui_request().sample())
    with pytest.raises(BeyondFacialError, match="no face"):
        task.work()
    assert task.result is None


def test_ordinary_call_raises_and_the_next_one_works():
    p = failing_ui_request()
    with pytest.raises(BeyondFacialError, match="no face"):
        p.sample()
    assert p.sample() == ["a picture"]


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_run_is_released_when_the_sampling_ends_in_any_way(error):
    """What is attached for the pass comes off, and an error that is not ours is the host's as it was."""

    class Sampled:
        def sample(self):
            attached.append("sampling")
            if error:
                raise error
            return ["a picture"]

    p, attached = Sampled(), []
    run = Run(Plan(MethodParameters(), (), lambda image: []), weakref.ref(p))
    setattr(p, ATTRIBUTE, run)
    run.scope.callback(attached.append, "off")
    request.wrap_sample(p, run)
    if error:
        with pytest.raises(error):
            p.sample()
    else:
        assert p.sample() == ["a picture"]
    assert attached == ["sampling", "off"]
    assert run.sampling is run.host is run.noise is None


def test_copies_of_p_do_not_run_an_older_requests_sampling():
    """X/Y/Z copies p with its instance attributes; a wrapper of ours on it must not outlive its request."""

    class P:
        def sample(self):
            return self

    p = P()
    request.wrap_sample(p, Run(Plan(MethodParameters(), (), lambda image: []), weakref.ref(p)))
    twin = copy.copy(p)
    assert twin.__dict__["sample"]._beyondfacial
    request.unwrap_sample(twin)
    assert "sample" not in twin.__dict__
    assert twin.sample() is twin
