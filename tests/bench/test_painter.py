"""What the bench measures is the product: the same pictures, from the same photo, through the API."""

from dataclasses import replace

import numpy as np
import pytest
from fastapi.exceptions import HTTPException

from bench.methods import METHODS
from bench.painter import REPOSITORY, WEIGHTS, Painter, Sampling
from bench.pairs import make_pairs
from demo.miniwebui.host import boot

pytestmark = pytest.mark.weights
STEPS = 4
NAMES = ("beyondfacial", "single_line", "other_gender")


@pytest.fixture(scope="module")
def products(pair):
    """The product's pictures by method; its host goes before the bench's is booted."""
    host = boot(WEIGHTS / "models", [REPOSITORY])
    pictures = {}
    for name in NAMES:
        method = METHODS[name]
        unit = {"references": [pair.reference], **method.settings}
        request = {"prompt": pair.prompt_of(method.medium, method.other_gender), "seed": pair.seed, "steps": STEPS}
        images, _ = host.txt2img(
            **request,
            cfg_scale=Sampling.cfg_scale,
            sampler_name=Sampling.sampler_name,
            alwayson_scripts={"BeyondFacial": {"args": [unit]}},
        )
        pictures[name] = np.asarray(images[0].convert("RGB"))
    return pictures


@pytest.fixture(scope="module")
def painter(products):
    return Painter(Sampling(steps=STEPS), "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_the_products(painter, pair, products, name):
    assert np.array_equal(painter.paint([pair], METHODS[name]).images[0], products[name])


def test_each_picture_of_a_batch_has_its_own_person(painter, pair):
    """The same prompt and seed twice: only the photos differ."""
    other = next(each for each in make_pairs(9) if each.person.hair_colour != pair.person.hair_colour)
    double = replace(pair, reference=other.reference)
    method = METHODS["single_line"]
    both = painter.paint([pair, double], method)
    for i, each in enumerate((pair, double)):
        alone = painter.paint([each], method).images[0].astype(int)
        same, others = (np.abs(alone - image.astype(int)).mean() for image in (both.images[i], both.images[1 - i]))
        assert same < 1 < others


def test_failed_begin_leaves_the_next_request_plain(painter, pair, monkeypatch):
    plain = painter.paint([pair], METHODS["plain"]).images[0]
    make_plan = painter.make_plan

    def no_plan(*given):
        return replace(make_plan(*given), lines=None)

    monkeypatch.setattr(painter, "make_plan", no_plan)
    with pytest.raises(HTTPException) as raised:
        painter.paint([pair], METHODS["beyondfacial"])
    assert "TypeError" in raised.value.detail
    assert np.array_equal(painter.paint([pair], METHODS["plain"]).images[0], plain)
