import pytest
from torch import nn

from lib_beyondfacial.hosts.patches import Patches, unpatched


class Sampler:
    def launch(self):
        return "the class's own"


def test_undo_shows_the_classs_own_again():
    sampler, patches = Sampler(), Patches()
    patches.set(sampler, "launch", lambda: "ours")
    assert sampler.launch() == "ours"
    patches.undo()
    assert sampler.launch() == "the class's own"
    assert not sampler.__dict__


def test_undo_brings_back_what_another_extension_had_set():
    sampler, patches = Sampler(), Patches()
    foreign = sampler.launch = lambda: "theirs"
    patches.set(sampler, "launch", lambda: "ours")
    patches.undo()
    assert sampler.launch is foreign


def test_undo_keeps_another_extensions_later_patch():
    sampler, patches = Sampler(), Patches()
    patches.set(sampler, "launch", lambda: "ours")
    patched = sampler.launch
    sampler.launch = lambda: f"theirs over {patched()}"
    patches.undo()
    assert sampler.launch() == "theirs over ours"


class Layer(nn.Linear):
    def forward(self, x):
        return "the class's own"


def test_unpatched_shows_the_classes_own_methods_meanwhile():
    model = nn.Sequential(Layer(1, 1))
    foreign = model[0].forward = lambda x: "theirs"
    with unpatched(model):
        assert model(1) == "the class's own"
    assert model[0].forward is foreign
    with pytest.raises(ZeroDivisionError), unpatched(model):
        raise ZeroDivisionError
    assert model[0].forward is foreign
    assert model(1) == "theirs"
