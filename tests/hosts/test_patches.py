from lib_beyondfacial.hosts.patches import Patches


class Sampler:
    def launch(self):
        return "the class's own"


def test_what_was_laid_comes_off_and_the_class_shows_again():
    sampler, patches = Sampler(), Patches()
    patches.lay(sampler, "launch", lambda: "ours")
    assert sampler.launch() == "ours"
    patches.undo()
    assert sampler.launch() == "the class's own"
    assert not sampler.__dict__


def test_what_another_extension_had_laid_before_comes_back():
    sampler, patches = Sampler(), Patches()
    theirs = sampler.launch = lambda: "theirs"
    patches.lay(sampler, "launch", lambda: "ours")
    patches.undo()
    assert sampler.launch is theirs


def test_what_another_extension_has_chained_over_ours_stays():
    sampler, patches = Sampler(), Patches()
    patches.lay(sampler, "launch", lambda: "ours")
    ours = sampler.launch
    sampler.launch = lambda: f"theirs over {ours()}"
    patches.undo()
    assert sampler.launch() == "theirs over ours"
