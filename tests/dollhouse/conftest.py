"""A whole chain of training runs of three steps each, on a world of a few 64 px pictures: made once, read by many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from demo.dollhouse.train.all import FEW, SHORT, run_chain
from demo.dollhouse.train.place import Place


def make_place(root: Path, size: int = 64, workers: int = 1) -> Place:
    return Place(size, root / "out", root / "cache", torch.device("cpu"), workers, FEW)


@pytest.fixture(scope="session")
def chain(tmp_path_factory) -> Place:
    """The place of a finished chain. Its runs are what a test compares with: nobody writes there."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    place = make_place(tmp_path_factory.mktemp("chain"))
    assert run_chain(place, SHORT)
    yield place
    torch.set_num_threads(threads)


@pytest.fixture
def elsewhere(chain, tmp_path) -> Place:
    """A place that has all the data and finished models of the chain, but none of its runs."""
    place = replace(chain, out=tmp_path / "out", cache=tmp_path / "cache")
    for source, target in ((chain.out, place.out), (chain.cache, place.cache)):
        for path in source.rglob("*"):
            if path.is_file() and not path.name.startswith("run_"):
                copy = target / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    return place
