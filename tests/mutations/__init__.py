"""Faults that a maintainer might make, and whether the tests notice them: `python -m tests.mutations`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "lib_beyondfacial"


class Mutation(NamedTuple):
    """One fault.

    file: below lib_beyondfacial. old: text that occurs in it exactly once; new: what stands there instead.
    tests: what pytest is given, paths or test ids, separated by spaces. why: what goes wrong for the user.
    """

    file: str
    old: str
    new: str
    tests: str
    why: str

    def apply(self, root: Path) -> str:
        """Write the fault into the tree at root; the file's text as it was. ValueError where old is not there once."""
        path = root / PACKAGE / self.file
        before = path.read_text(encoding="utf-8")
        if before.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {self.old!r} {before.count(self.old)} times, not once")
        path.write_text(before.replace(self.old, self.new), encoding="utf-8")
        return before

    def undo(self, root: Path, before: str) -> None:
        (root / PACKAGE / self.file).write_text(before, encoding="utf-8")


def all_mutations() -> list[Mutation]:
    """All of them, in the order of their numbers, which begin at 1."""
    from . import adapters, hosts, method, sampling, unet

    return [each for table in (method, unet, adapters, sampling, hosts) for each in table.MUTATIONS]
