"""Records kept between runs: one JSON line a pair and method, in a file whose name follows from everything that
decides what is in it. A run that was ended goes on where it stopped; a changed method starts anew."""

from __future__ import annotations

import ast
import functools
import gzip
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.methods import METHODS, Method
from bench.painter import REPOSITORY, WEIGHTS, Sampling

CACHE = REPOSITORY / "bench" / "cache"
Record = dict[str, Any]
OF_EVERY_PICTURE = ("demo/miniwebui", "demo/sd1", "demo/nets", "demo/dollhouse/*.py", "bench/pairs.py")
OF_EVERY_PICTURE += ("bench/painter.py", "bench/judges.py", "bench/preservation.py", "bench/device.py")
UNITS = ("settings", "method", "unet", "adapters", "faces", "sampling", "hosts", "webui/person.py")
OF_OUR_PICTURES = tuple(f"lib_beyondfacial/{unit}" for unit in UNITS)
OF_OUR_PICTURES += ("bench/alternatives.py", "bench/ablations.py", "bench/detailer.py", "bench/script.py")


def without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


@functools.lru_cache(maxsize=4)
def hash_sources(places: tuple[str, ...]) -> str:
    """Of what the sources do: comments, docstrings and formatting do not count."""
    digest = hashlib.sha256()
    for place in places:
        path = REPOSITORY / place
        files = path.rglob("*.py") if path.is_dir() else path.parent.glob(path.name)
        for file in sorted(files):
            tree = without_docstrings(ast.parse(file.read_text(encoding="utf-8")))
            digest.update(file.relative_to(REPOSITORY).as_posix().encode() + ast.dump(tree).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def hash_weights() -> str:
    """Of every shipped weight file; the card and the figures beside them do not count."""
    digest = hashlib.sha256()
    for file in sorted(WEIGHTS.rglob("*")):
        if file.suffix in (".safetensors", ".onnx", ".yaml", ".txt") and file.name != "figures.txt":
            digest.update(file.relative_to(WEIGHTS).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def key_of(method: Method, sampling: Sampling, device: str) -> str:
    """12 hex digits over settings, alternative, sampling, device, weights and code."""
    places = OF_EVERY_PICTURE if method.settings is None else OF_EVERY_PICTURE + OF_OUR_PICTURES
    content = [
        method.resolved(),
        method.alternative,
        method.case,
        [key_of(METHODS[name], sampling, device) for name in method.needs],
        asdict(replace(sampling, **method.sampling)),
        device,
        hash_weights(),
        hash_sources(places),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


class Store:
    """A method's records on a split. Lines are appended and flushed at once; of two for one pair the later counts."""

    def __init__(self, path: Path):
        self.path, self.by_pair = path, dict[int, Record]()
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                try:
                    record = json.loads(line)
                    self.by_pair[record["pair"]] = record
                except ValueError:  # the end of a run that was killed while it wrote
                    continue

    @classmethod
    def of(cls, method: Method, split: str, sampling: Sampling, device: str, cache: Path = CACHE) -> Store:
        return cls(cache / split / f"{method.name}_{key_of(method, sampling, device)}.jsonl")

    def has(self, batch: list[int]) -> bool:
        """Whether these pairs were made, and made as one batch: other company, other rounding."""
        return all(pair in self.by_pair and self.by_pair[pair]["batch"] == batch for pair in batch)

    def add(self, records: Iterable[Record]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        records = list(records)
        self.by_pair |= {record["pair"]: record for record in records}
        lines = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        with self.path.open("ab", buffering=0) as file:  # at once: other processes may append to the same file
            file.write(lines if ends_line(self.path) else b"\n" + lines)


def ends_line(path: Path) -> bool:
    """Whether the file's last line is whole; an empty file has none that is not."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def write_records(path: Path, by_method: dict[str, list[Record]]) -> None:
    """All methods' records as gzipped JSON lines; the same records give the same bytes."""
    lines = [json.dumps({"method": m, **record}) + "\n" for m, records in by_method.items() for record in records]
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


def read_records(path: Path) -> dict[str, list[Record]]:
    by_method: dict[str, list[Record]] = {}
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        record = json.loads(line)
        by_method.setdefault(record.pop("method"), []).append(record)
    return by_method
