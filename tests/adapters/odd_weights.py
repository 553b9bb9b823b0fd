"""Weight files that people have and that attackers send, made by code; run as a process of its own.

python -m tests.adapters.odd_weights FOLDER
"""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from lib_beyondfacial.adapters.registry import get_adapter, list_adapters, peek_adapter, unload_adapters
from lib_beyondfacial.errors import BeyondFacialError
from tests.adapters.synthetic import flat_keys, random_adapter

WIDTHS, CONTEXT = (8, 16, 8), 12
CASES: dict[str, tuple[Callable[[], bytes], str]] = {}  # file name -> content, words of the sentence ("": it is used)


def case(name: str, want: str = "") -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def add(make: Callable[[], bytes]) -> Callable[[], bytes]:
        CASES[name] = make, want
        return make

    return add


def weights(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A FaceID file by flat keys."""
    return {key: tensor.to(dtype) for key, tensor in flat_keys(random_adapter(WIDTHS, CONTEXT, lora_rank=2)).items()}


def nested(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    found: dict[str, Any] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in weights(dtype).items():
        section, _, rest = key.partition(".")
        found[section][rest] = tensor
    return found


def turned(part: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same numbers, stored by columns."""
    return {key: each.t().contiguous().t() if each.ndim == 2 else each for key, each in part.items()}


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def archive(pickled: bytes, extra: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little", **(extra or {})}.items():
            file.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def safetensors(header: dict[str, Any] | bytes, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def bytearray_bomb() -> bytes:
    """What made 3 GB of 400 bytes."""
    return (
        b"\x80\x02}" + text("a") + b"cbuiltins\nbytearray\n\x8a\x05" + (3 * 10**9).to_bytes(5, "little") + b"\x85Rs."
    )


def shared_tables() -> bytes:
    """Four dicts, each of which holds the one before a hundred times: 2 kB, 100 million entries."""
    steps = b"\x80\x02}q\0"
    for i in range(4):
        again = b"".join(text(str(n)) + b"h" + bytes([i]) for n in range(100))
        steps += b"}q" + bytes([i + 1]) + b"(" + again + b"u"
    return steps + b"."


def self_made() -> bytes:
    """A dict in itself."""
    return b"\x80\x02}q\0" + text("a") + b"h\0s."


def many_keys(count: int) -> bytes:
    return b"\x80\x02}(" + b"".join(text(str(i)) + b"K\1" for i in range(count)) + b"u."


def many_tensors(count: int) -> bytes:
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("a") + text("cpu") + b"K\1tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0K\1\x85K\1\x85\x89}tR"
    return (
        b"\x80\x02}"
        + text("first")
        + tensor
        + b"q\2s("
        + b"".join(text(str(i)) + b"h\2" for i in range(count))
        + b"u."
    )


class Runs:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def cut(share: float, data: bytes) -> bytes:
    return data[: int(len(data) * share)]


def directory_of(count: int) -> bytes:
    """An archive whose directory says `count` empty files, all of them the first."""
    data = archive(b"\x80\x02}.")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        start = file.start_dir
    entry = data[start : data.index(b"PK\1\2", start + 4)]
    body = data[:start] + entry * count
    return body + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entry) * count, start, 0)


for _name, _dtype in {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}.items():
    case(f"{_name}.safetensors")(lambda dtype=_dtype: save(weights(dtype)))
    case(f"{_name}.bin")(lambda dtype=_dtype: saved(nested(dtype)))
for _name in ("float8_e4m3fn", "float8_e5m2"):
    case(f"{_name}.safetensors")(lambda name=_name: save(weights(getattr(torch, name))))
    case(f"{_name}.bin")(lambda name=_name: saved(nested(getattr(torch, name))))
case("ends in pth.pth")(lambda: saved(nested()))
case("ends in pt.pt")(lambda: saved(nested()))
case("archive named so.safetensors")(lambda: saved(nested()))
case("safetensors named so.bin")(lambda: save(weights()))
case("protocol 4.bin")(lambda: saved(nested(), pickle_protocol=4))
case("parameters.bin")(
    lambda: saved({k: {a: torch.nn.Parameter(b) for a, b in v.items()} for k, v in nested().items()})
)
case("ordered.bin")(
    lambda: saved(collections.OrderedDict((k, collections.OrderedDict(v)) for k, v in nested().items()))
)
case("state of a module.bin")(
    lambda: saved(nested() | {"extra": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2)).state_dict()})
)
case("notes beside.bin")(
    lambda: saved(nested() | {"epoch": 3, "loss": 0.5, "names": ["a", ["b"]], "none": None, "flag": True})
)
case("turned.bin")(lambda: saved({key: turned(part) for key, part in nested().items()}))
case("flat keys.bin")(lambda: saved(weights()))
case("LICENCE beside.bin")(lambda: saved(nested() | {"count": torch.zeros(0, 3)}))
case("before 1.6.bin", "saved by a torch before 1.6")(lambda: saved(nested(), _use_new_zipfile_serialization=False))
case("a pickle.bin", "a Python pickle and no weight file")(lambda: pickle.dumps({"image_proj": {}}))
case("bytearray.bin", "a Python pickle and no weight file")(bytearray_bomb)
case("bytearray in an archive.bin", "refused as unsafe")(lambda: archive(bytearray_bomb()))
case("runs.bin", "refused as unsafe")(lambda: saved(nested() | {"x": Runs()}))
case("shared.bin", "repeated")(lambda: archive(shared_tables()))
case("in itself.bin", "too deep or repeated")(lambda: archive(self_made()))
case("nested lists.bin", "far too many entries")(
    lambda: archive(b"\x80\x02" + b"]" * 3_000_000 + b"a" * 3_000_000 + b".")
)
case("200000 keys.bin", "holds no identity adapter")(lambda: archive(many_keys(200_000)))
case("200000 tensors.bin", "more than 20000 tensors")(lambda: archive(many_tensors(200_000), {"data/a": bytes(4)}))
case("19000 tensors.bin", "no identity adapter")(lambda: archive(many_tensors(19_000), {"data/a": bytes(4)}))
case("long digits.bin", "refused as unsafe")(lambda: archive(b"\x80\x02L" + b"9" * 5_000_000 + b"L\n."))
case("expanded.bin", "larger than")(lambda: saved({"image_proj": {"x": torch.zeros(1).expand(10**12)}}))
case("meta.bin", "refused as unsafe")(lambda: saved({"image_proj": {"x": torch.zeros(10**9, device="meta")}}))
case("list.bin", "no weights by name")(lambda: saved([torch.ones(2)]))
case("packed.bin", "an archive, not a weight file")(
    lambda: archive(pickle.dumps({}, 2), {"data/0": bytes(10**8)}, zipfile.ZIP_DEFLATED)
)
case("directory.bin", "far too many files")(lambda: directory_of(500_000))
case("half.bin", "cut off")(lambda: cut(0.5, saved(nested())))
case("half.safetensors", "cut off")(lambda: cut(0.5, save(weights())))
case("header only.safetensors", "damaged")(lambda: save(weights())[:400])
case("overlapping.safetensors", "overlap")(
    lambda: safetensors({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, bytes(8))
)
case("200000 keys.safetensors", "more than 20000 tensors")(
    lambda: safetensors({f"{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(110_000)})
)
case("huge header.safetensors", "header of more than 8 MB")(lambda: safetensors(b"{" + b" " * 9_000_000 + b"}"))
case("deep header.safetensors", "damaged")(lambda: safetensors(b'{"a":' * 1_000_000))
case("digits.safetensors", "damaged")(lambda: safetensors(b'{"a":' + b"9" * 7_000_000 + b"}"))
case("fp4.safetensors", '"F4"')(
    lambda: safetensors({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, bytes(1))
)
case("scaled.safetensors", "scales of their own")(
    lambda: save({**weights(torch.float8_e4m3fn), "ip_adapter.1.to_k_ip.scale_weight": torch.ones(1)})
)
case("negative.safetensors", "damaged")(
    lambda: safetensors({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, -1]}})
)
case("page.safetensors", "a web page")(lambda: b"<!DOCTYPE html><html><body>Not found</body></html>")
case("pointer.safetensors", "Git LFS pointer")(lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
case("zeros.bin", "only zeros")(lambda: bytes(100_000))
case("nothing.bin", "is empty")(lambda: b"")
case("other.bin", "a GGUF file")(lambda: b"GGUF" + bytes(100))


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(name: str, folder: Path) -> dict[str, object]:
    """Listed, peeked at, loaded: one file alone in its folder."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before, began, outcome = peak_mb(), time.process_time(), {"name": name}
    listing = list_adapters([folder])
    (key,) = listing
    card = peek_adapter(key, listing)
    try:
        adapter = get_adapter(key, listing)
        outcome["dtypes"] = sorted({str(t.dtype) for t in adapter.weights.ip_adapter.values()})
        outcome["sum"] = float(sum(t.double().abs().sum() for t in adapter.weights.ip_adapter.values()))
    except BeyondFacialError as error:
        outcome["sentence"] = str(error)
    outcome["peeked"] = card.sentence
    unload_adapters()
    return outcome | {"seconds": time.process_time() - began, "grown": peak_mb() - before}


def main(root: Path) -> None:
    torch.set_num_threads(1)
    for i, (name, (make, _)) in enumerate([("fp16.bin", CASES["fp16.bin"]), *CASES.items()]):
        folder = root / str(i)
        folder.mkdir()
        (folder / name).write_bytes(make())
        outcome = measured(name, folder)
        (folder / name).unlink()
        if i:  # the first one warms everything
            print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
