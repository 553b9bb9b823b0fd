"""A chain of runs in a few files, to go on with it on another machine.

Finished models travel as their weights; of unfinished ones the averaged weights in half precision, without the
optimiser's state, which would be eight times as large: such a run goes on with a new warm-up, not bit for bit.
What can be drawn or computed again stays behind.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import torch

from demo.dollhouse.train.place import Place

PART = 15 * 2**20  # bytes: machines that take files back limit each to 16 MiB
# What later stages start from, and the stage that is the last to need it.
KEPT = {
    "chain.json": None,
    "feed.safetensors": "decoder",
    "feed_trained.pt": "feed_soft",
    "feed_soft.safetensors": None,
    "vae.safetensors": "decoder",
    "vae_sharp.safetensors": None,
}


def light(path: Path) -> bytes:
    state = torch.load(path, weights_only=True, map_location="cpu")
    state |= {"ema": [v.half() for v in state["ema"]], "model": None, "optimizer": None}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def write_bundle(place: Place, folder: Path, finished: set[str]) -> list[Path]:
    """Everything that the chain goes on from, as `bundle.00`, `bundle.01`, ... in `folder`; old parts go."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for path in sorted(p for p in place.out.rglob("*") if p.is_file()):
            archive.add(path, Path("out") / path.relative_to(place.out))
        for name, last in KEPT.items():
            if (place.cache / name).exists() and last not in finished:
                archive.add(place.cache / name, Path("cache") / name)
        for path in sorted(place.cache.glob("run_*.pt")):
            stage = path.stem.removeprefix("run_").removeprefix("recogniser_")
            if stage in finished or (stage.startswith("evaluator_") and "evaluator" in finished):
                continue
            content = light(path)
            entry = tarfile.TarInfo(f"cache/{path.name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("bundle.*"):
        old.unlink()
    data, paths = whole.getvalue(), []
    for k, start in enumerate(range(0, len(data), PART)):
        paths.append(folder / f"bundle.{k:02d}")
        paths[-1].write_bytes(data[start : start + PART])
    return paths


def read_bundle(place: Place, folder: Path) -> bool:
    """Put a bundle's files where they belong; False where there is none."""
    parts = sorted(folder.glob("bundle.*"))
    if not parts:
        return False
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        for entry in archive:
            top, *rest = Path(entry.name).parts
            source = archive.extractfile(entry)
            if source is None or top not in ("out", "cache") or not rest or ".." in rest:
                continue
            path = (place.out if top == "out" else place.cache).joinpath(*rest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())
    return True
