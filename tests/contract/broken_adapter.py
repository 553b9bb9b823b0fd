"""An adapter file that is sound in every way but one: its attention overflows, so the identity line is NaN."""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

OVERFLOW = 1e37


def write_broken_adapter(good: Path, broken: Path) -> None:
    """Keys near fp32's end: they are finite, their products with queries are not."""
    tensors = load_file(good)
    for name, tensor in tensors.items():
        if "to_k_ip" in name:
            tensors[name] = tensor.float() / tensor.float().abs().max() * OVERFLOW
    save_file(tensors, broken)


if __name__ == "__main__":
    write_broken_adapter(Path(sys.argv[1]), Path(sys.argv[2]))
