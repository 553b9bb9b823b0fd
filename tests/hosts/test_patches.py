import pytest

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
    theirs = sampler.launch = lambda: "theirs"
    patches.set(sampler, "launch", lambda: "ours")
    patches.undo()
    assert sampler.launch is theirs


def test_undo_leaves_what_another_extension_has_chained_over_ours():
    sampler, patches = Sampler(), Patches()
    patches.set(sampler, "launch", lambda: "ours")
    ours = sampler.launch
    sampler.launch = lambda: f"theirs over {ours()}"
    patches.undo()
    assert sampler.launch() == "theirs over ours"


def test_unpatched_shows_the_classs_own_meanwhile():
    sampler = Sampler()
    theirs = sampler.launch = lambda: "theirs"
    with unpatched(sampler, "launch"):
        assert sampler.launch() == "the class's own"
    assert sampler.launch is theirs
    with pytest.raises(ZeroDivisionError), unpatched(sampler, "launch"):
        raise ZeroDivisionError
    assert sampler.launch is theirs
    with unpatched(Sampler(), "launch"):
        pass
