"""Break a copy of the tree in one place at a time, and see whether the tests notice.

python -m tests.mutations [--only N ...] [--jobs J]

Exits with 1 where one survives, where its old text is not there exactly once, or where its tests fail without it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from . import ROOT, Mutation, all_mutations

NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "out", "results")
LIMIT_S = 600
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
OUTCOMES = {0: "survived", 1: "killed"}  # by pytest's exit code; any other, and no end, is an error


def run_tests(root: Path, tests: str, limit: float | None = LIMIT_S) -> tuple[int, str]:
    """pytest's exit code, and the last lines that it printed."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [*PYTEST, *tests.split()]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end after {limit} s"
    return done.returncode, "\n".join(done.stdout.splitlines()[-3:])


def try_mutation(root: Path, mutation: Mutation) -> tuple[str, str]:
    """("killed" | "survived" | "error", the last lines of pytest)."""
    try:
        before = mutation.apply(root)
    except ValueError as error:
        return "error", str(error)
    try:
        code, message = run_tests(root, mutation.tests)
    finally:
        mutation.undo(root, before)
    return OUTCOMES.get(code, "error"), message


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="numbers of mutations, from 1")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once, each in a copy of its own")
    given = parser.parse_args()
    numbered = list(enumerate(all_mutations(), 1))
    chosen = [(number, each) for number, each in numbered if not given.only or number in given.only]
    copies: SimpleQueue[Path] = SimpleQueue()
    outcomes: list[str] = []

    def work(number: int, mutation: Mutation) -> None:
        root, began = copies.get(), time.monotonic()
        try:
            outcome, message = try_mutation(root, mutation)
        finally:
            copies.put(root)
        outcomes.append(outcome)
        print(f"{number:2} {outcome:8} {time.monotonic() - began:5.1f} s  {mutation.file}: {mutation.why}", flush=True)
        if outcome != "killed":
            print(f"   {mutation.old!r} -> {mutation.new!r}\n   {message}", flush=True)

    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        for job in range(given.jobs):
            copies.put(Path(shutil.copytree(ROOT, Path(folder) / str(job), ignore=NOT_COPIED)))
        tests = " ".join(dict.fromkeys(test for _, each in chosen for test in each.tests.split()))
        code, message = run_tests(Path(folder) / "0", tests, limit=None)
        if code:
            print(f"Without any mutation these tests do not pass:\n{message}")
            return 1
        with ThreadPoolExecutor(given.jobs) as pool:
            list(pool.map(lambda each: work(*each), chosen))
    print(", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("killed", "survived", "error")), f"of {len(chosen)}")
    return 0 if outcomes.count("killed") == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
