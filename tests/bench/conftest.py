"""A pair and a painter, for the tests that paint; torch on one thread, as the bench has it."""

import pytest
import torch

from bench.painter import Painter, Sampling
from bench.pairs import make_pairs


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pair():
    return make_pairs(1)[0]


@pytest.fixture(scope="module")
def painter():
    return Painter(Sampling(steps=4), "cpu")
