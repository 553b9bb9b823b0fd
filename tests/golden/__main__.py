"""python -m tests.golden record FILE | compare FILE [--only WORD ...] (tests/golden/__init__.py)."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from .cases import CASES
from .comparing import find_differences, load, refuse_other_machine, rule_of, save
from .making import make_all


def record(path: Path) -> None:
    """Make all cases and keep them; exits where one fails, or a fault changes the plain picture behind it."""
    results, began = {}, time.monotonic()
    meant_to_fail = {case.name for case in CASES if case.fault == "exception"}
    for key, result in make_all():
        results[key] = result
        numbers = ", ".join(f"{name} {values.round(4).tolist()}" for name, values in result.numbers.items())
        print(f"{' '.join(key)}: {numbers or 'plain'}", flush=True)
        if result.numbers.get("failed", False) and key[1] not in meant_to_fail:
            raise SystemExit(f"{' '.join(key)}: the request failed; mend that first.")
        if not result.numbers.get("plain_unchanged", True):
            raise SystemExit(f"{' '.join(key)}: the plain picture behind it is not the one before it.")
    save(path, results)
    print(f"{path}: {len(results)} cases in {time.monotonic() - began:.0f} s")


def compare(path: Path, only: list[str]) -> int:
    """Make the kept cases again, print a line each, and give back how many differ."""
    machine, kept = load(path)
    refuse_other_machine(path, machine)
    cases = {case.name: case for case in CASES}
    wanted = {key for key in kept if not only or any(word in " ".join(key) for word in only)}
    unknown = sorted(name for _, name in wanted if name not in cases)
    if unknown or not wanted:
        raise SystemExit(f"{path} and tests/golden/cases.py have no common case of {unknown or only}; record it anew.")
    differing = 0
    for key, result in make_all(wanted):
        found = find_differences(kept[key], result, rule_of(key[0], cases[key[1]]))
        differing += bool(found)
        print(f"{' '.join(key)}: {'differs: ' + '; '.join(found) if found else 'ok'}", flush=True)
    print(f"{len(wanted)} cases, {differing} differ")
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description="See tests/golden/__init__.py.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("file", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("file", type=Path)
    comparing.add_argument("--only", nargs="+", default=[], help="words of which a case's host and name hold one")
    args = parser.parse_args()
    if args.command == "record":
        record(args.file)
    elif compare(args.file, args.only):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
