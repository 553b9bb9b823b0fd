"""300 broken weight files: never a crash, a hang or memory without bound; a sentence, or a load that can be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNT = 300


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space and /proc are Linux's")
def test_mutated_weight_files(tmp_path):
    """In a process of its own, so that a crash is seen as one."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.adapters.mutate", str(tmp_path), str(COUNT), "20"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    runs = [json.loads(line) for line in run.stdout.splitlines()]
    assert (run.returncode, len(runs)) == (0, COUNT), f"after {runs[-1:]}: {run.stderr[-2000:]}"
    outcomes = Counter(each["outcome"] for each in runs)
    print(outcomes, "slowest", max(each["seconds"] for each in runs))
    assert set(outcomes) == {"used", "refused"}, [each for each in runs if each["outcome"] not in ("used", "refused")]
    assert outcomes["refused"] > COUNT / 2  # the mutations do break files
    assert outcomes["used"] > COUNT / 20  # and are not all so coarse that nothing behind the readers is reached
    assert max(each["seconds"] for each in runs) < 5
    assert runs[-1]["peak_kb"] - runs[0]["peak_kb"] < 100_000
