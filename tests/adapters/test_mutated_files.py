"""Broken weight files: never a crash, a hang or memory without bound; a sentence, or a load that can be used."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest

from tests.alone import run_alone


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space and /proc are Linux's")
def test_mutated_weight_files(tmp_path, count):
    """In a process of its own, so that a crash is seen as one."""
    output = run_alone("-m", "tests.adapters.mutate", tmp_path, count, 20, timeout=300)
    runs = [json.loads(line) for line in output.splitlines()]
    assert len(runs) == count, f"after {runs[-1:]}"
    outcomes = Counter(each["outcome"] for each in runs)
    print(outcomes, "slowest", max(each["seconds"] for each in runs))
    assert set(outcomes) == {"used", "refused"}, [each for each in runs if each["outcome"] not in ("used", "refused")]
    assert outcomes["refused"] > count / 2  # the mutations do break files
    assert outcomes["used"] > count / 20  # and are not all so coarse that nothing behind the readers is reached
    assert max(each["seconds"] for each in runs) < 5
    assert runs[-1]["peak_kb"] - runs[0]["peak_kb"] < 100_000
