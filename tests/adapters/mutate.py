"""Weight files broken in every way, loaded and used; run as a process of its own, one line of JSON per file.

python -m tests.adapters.mutate FOLDER COUNT SEED
"""

from __future__ import annotations

import json
import random
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lib_beyondfacial.adapters import DecoupledAttention, get_adapter, peek_adapter, project_identity
from lib_beyondfacial.adapters.registry import unload_adapters
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.unet.sites import Site
from tests.adapters.synthetic import FAMILIES, face_features, random_family, write

WIDTHS, CONTEXT = (8, 16), 64
HEADROOM = 1 << 30  # of address space


def flip(data: bytearray, draw: random.Random, low: int, high: int) -> None:
    for _ in range(draw.randint(1, 16)):
        data[draw.randrange(low, max(low + 1, min(high, len(data))))] = draw.randrange(256)


def flip_head(data: bytearray, draw: random.Random) -> None:
    """safetensors' header, torch's pickle."""
    flip(data, draw, 0, 4000)


def flip_tail(data: bytearray, draw: random.Random) -> None:
    """The directory of an archive."""
    flip(data, draw, len(data) - 4000, len(data))


def flip_anywhere(data: bytearray, draw: random.Random) -> None:
    flip(data, draw, 0, len(data))


def cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def grow(data: bytearray, draw: random.Random) -> None:
    data += draw.randbytes(draw.randint(1, 5000))


def move(data: bytearray, draw: random.Random) -> None:
    at, size, to = draw.randrange(len(data)), draw.randint(1, 3000), draw.randrange(len(data))
    part = bytes(data[at : at + size])
    data[to:to] = part
    if draw.random() < 0.5:
        del data[at : at + size]


def renumber(data: bytearray, draw: random.Random) -> None:
    """Digits of shapes, offsets and key names."""
    digits = [i for i in range(min(len(data), 6000)) if 48 <= data[i] <= 57]
    for _ in range(draw.randint(1, 4)) if digits else ():
        data[draw.choice(digits)] = draw.randrange(48, 58)


def lengthen(data: bytearray, draw: random.Random) -> None:
    data[:8] = struct.pack("<Q", draw.choice((0, 1, len(data), 1 << 31, 1 << 62, draw.randrange(1 << 16))))


def spoil_numbers(data: bytearray, draw: random.Random) -> None:
    """Huge numbers, infinities and NaNs in the weights."""
    at = draw.randrange(len(data) // 4, len(data) - 8) // 4 * 4
    data[at : at + 4] = draw.choice((b"\xff\xff\x7f\x7f", b"\0\0\x80\x7f", b"\xff\xff\xff\xff", b"\0\0\x80\xff"))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_head,
    flip_tail,
    flip_anywhere,
    cut,
    grow,
    move,
    renumber,
    lengthen,
    spoil_numbers,
)


def good_files(folder: Path) -> list[tuple[str, bytes]]:
    """(family, bytes) of each family in both containers."""
    found = []
    for family in FAMILIES:
        weights = random_family(family, WIDTHS, CONTEXT, lora_rank=2, hidden=4, width=64, depth=1)
        found += [
            (family, write(weights, folder / f"good.{ending}").read_bytes()) for ending in ("bin", "safetensors")
        ]
    return found


def use(path: Path, family: str) -> str:
    """List, load, project, attach: "used", or "refused" in words; anything else comes out as it is."""
    listing = {"mutated": path}
    ask = "auto" if family in ("faceid", "portrait") else family
    peek_adapter("mutated", listing, ask)
    try:
        adapter = get_adapter("mutated", listing, ask)
        unit = torch.nn.functional.normalize(torch.ones(2, 512), dim=1)
        tokens = project_identity(adapter.spec, adapter.weights, face_features(unit[:1], photos=unit))
        sites = [Site(f"input_blocks.{i}.attn2", h, 1, CONTEXT) for i, h in enumerate(adapter.spec.site_widths)]
        query = torch.ones(1, 3, WIDTHS[0])
        attended = DecoupledAttention(adapter.spec, adapter.weights, tokens, sites)(0, query, query, [0])
    except BeyondFacialError as error:
        if not str(error) or str(path.parent) in str(error):
            raise AssertionError(f"no sentence for users: {error}") from error
        return "refused"
    if not bool(torch.isfinite(attended).all()):
        raise AssertionError("numbers that are not finite came out")
    return "used"


def main(folder: Path, count: int, seed: int) -> None:
    torch.set_num_threads(1)
    draw = random.Random(seed)
    originals = good_files(folder)
    path = folder / "mutated.bin"
    for _, data in originals:  # everything is warm before the limits
        path.write_bytes(data)
        use(path, "faceid")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + HEADROOM, taken + HEADROOM))
    for i in range(count):
        family, data = originals[i % len(originals)]
        broken, mutation = bytearray(data), MUTATIONS[i // len(originals) % len(MUTATIONS)]
        mutation(broken, draw)
        path.write_bytes(broken)
        unload_adapters()
        start = time.perf_counter()
        try:
            outcome = use(path, family)
        except BaseException as error:  # noqa: BLE001  that is what is looked for
            outcome = f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = {"mutation": mutation.__name__, "family": family, "outcome": outcome}
        print(json.dumps(answer | {"seconds": time.perf_counter() - start, "peak_kb": peak}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
