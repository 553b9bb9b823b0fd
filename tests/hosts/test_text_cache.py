"""Encoded texts are kept over requests, as long as nothing that decides them changes."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest

from lib_beyondfacial.hosts.text_cache import KEPT, encode_once

SIZE = (512, 768)


class Model:
    pass


class Encoding:
    def __init__(self, texts):
        self.texts = texts


class Job:
    """What the hosts' processing object tells of its own cache."""

    def __init__(self, model, clip_skip=1, networks=None):
        self.sd_model, self.clip_skip, self.extra_network_data = model, clip_skip, networks

    def cached_params(self, texts, steps, networks, hires_steps):
        return texts, steps, networks, hires_steps, self.clip_skip


@pytest.fixture
def ask():
    """ask(p, *texts) -> the encoding, a new object each time it is really made."""

    def ask(p, *texts, size=SIZE):
        return encode_once(p, texts, size, lambda: Encoding(texts))

    return ask


def test_same_texts_are_encoded_once(ask):
    model = Model()
    first = ask(Job(model), "a man", "ugly")
    assert ask(Job(model), "a man", "ugly") is first
    assert first.texts == ("a man", "ugly")


@pytest.mark.parametrize(
    "other",
    [
        lambda ask, model: ask(Job(model), "a woman"),
        lambda ask, model: ask(Job(model), "a man", size=(64, 64)),
        lambda ask, model: ask(Job(model, clip_skip=2), "a man"),
        lambda ask, model: ask(Job(model, networks={"lora": ["style", 0.5]}), "a man"),
        lambda ask, model: ask(Job(Model()), "a man"),
    ],
)
def test_whatever_decides_it_makes_it_anew(ask, other):
    model = Model()
    first = ask(Job(model), "a man")
    assert other(ask, model) is not first
    assert ask(Job(model), "a man") is first


def test_only_the_latest_are_kept(ask):
    model = Model()
    first, second = ask(Job(model), "0"), ask(Job(model), "1")
    for n in range(2, KEPT):
        ask(Job(model), str(n))
    assert ask(Job(model), "0") is first
    ask(Job(model), "one more")
    assert ask(Job(model), "0") is first, "asked for last but one"
    assert ask(Job(model), "1") is not second


def test_they_go_with_the_model(ask):
    model = Model()
    encoded = weakref.ref(ask(Job(model), "a man"))
    assert encoded() is not None
    del model
    gc.collect()
    assert encoded() is None


def test_a_host_that_does_not_tell_is_asked_every_time(ask):
    p = SimpleNamespace(sd_model=Model())
    assert ask(p, "a man") is not ask(p, "a man")
