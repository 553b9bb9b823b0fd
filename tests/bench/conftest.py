"""A pair and a painter, for the tests that paint."""

import pytest

from bench.painter import Painter, Sampling
from bench.pairs import make_pairs


@pytest.fixture(scope="module")
def pair():
    return make_pairs(1)[0]


@pytest.fixture(scope="module")
def painter():
    return Painter(Sampling(steps=4), "cpu")
