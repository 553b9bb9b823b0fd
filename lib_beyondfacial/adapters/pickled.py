"""Reads the pickle of a torch archive step by step, without creating the objects that it asks for.

torch.load(weights_only=True) creates objects while it reads: a pickle of 400 bytes that calls bytearray(3 * 10**9)
takes 3 GB. This reader supports only the opcodes that torch.save writes, and calls nothing.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .stored import MAX_TENSORS, RefusedError

MAX_PICKLE = 8_000_000  # bytes: 1300 tensors take 200 kB
MAX_STEPS = 500_000
MAX_DEPTH = 4
MAX_KEY = 500  # characters of a tensor's name
MAX_AXES = 8
CODES = {opcode.code: opcode for opcode in pickletools.opcodes}
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
REBUILDERS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"}
PARAMETERS = {"_rebuild_parameter", "_rebuild_parameter_with_state"}
HARMLESS = {"torch Size", "torch device", "torch.serialization _get_layout"}
OTHER = object()  # placeholder for lists and everything else without tensors
UNSAFE = "holds objects beside weights, and is refused as unsafe; use a .safetensors file"


@dataclass(frozen=True)
class Global:
    """A name that the pickle would import."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A storage of numbers in the archive, by its key; dtype is None for untyped bytes."""

    dtype: torch.dtype | None
    key: str


@dataclass(frozen=True)
class PickledTensor:
    """A tensor as a view of a storage; offset and stride count numbers, not bytes."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(eq=False)
class Table:
    """A dict or OrderedDict."""

    items: dict[str, Any] = field(default_factory=dict)


class Machine:
    """The stack and the memo of the pickle, and the effect of each supported opcode on them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def mark(self, _argument: Any) -> None:
        self.marks.append(len(self.stack))

    def above_mark(self) -> list[Any]:
        at = self.marks.pop()
        found = self.stack[at:]
        del self.stack[at:]
        return found

    def skip(self, _argument: Any) -> None:
        """Ignore protocol and frames."""

    def push(self, argument: Any) -> None:
        self.stack.append(argument)

    def push_table(self, _argument: Any) -> None:
        self.stack.append(Table())

    def push_other(self, _argument: Any) -> None:
        self.stack.append(OTHER)

    def pack(self, _argument: Any) -> None:
        self.stack.append(tuple(self.above_mark()))

    def remember(self, argument: Any) -> None:
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def recall(self, argument: Any) -> None:
        self.stack.append(self.memo[argument])

    def drop(self, _argument: Any) -> None:
        """Drop a value that goes into a list or becomes the state of an object: it contains no weights."""
        self.stack.pop()

    def drop_many(self, _argument: Any) -> None:
        self.above_mark()

    def set_items(self, _argument: Any) -> None:
        values = self.above_mark()
        self._fill(values[::2], values[1::2])

    def set_item(self, _argument: Any) -> None:
        key, value = self.stack[-2:]
        del self.stack[-2:]
        self._fill([key], [value])

    def _fill(self, keys: list[Any], values: list[Any]) -> None:
        table = self.stack[-1]
        if not isinstance(table, Table):
            raise ValueError("items of what is no dict")
        for key, value in zip(keys, values, strict=True):
            if isinstance(key, (str, int)):
                table.items[str(key)] = value

    def name(self, argument: Any) -> None:
        self.stack.append(Global(argument))

    def name_on_stack(self, _argument: Any) -> None:
        module, name = self.stack[-2:]
        self.stack[-2:] = [Global(f"{module} {name}")]

    def storage(self, _argument: Any) -> None:
        """A persistent id: ("storage", its type, its key in the archive, the device it was on, how many numbers)."""
        kind, what, key = self.stack.pop()[:3]
        name = what.name.rpartition(" ")[2]
        if kind != "storage" or (name != "UntypedStorage" and name not in STORAGES):
            raise RefusedError(UNSAFE)
        self.stack.append(Storage(STORAGES.get(name), key))

    def call(self, _argument: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        module, _, name = function.name.rpartition(" ")
        if function.name == "collections OrderedDict" and arguments == ():
            self.stack.append(Table())
        elif module == "torch._utils" and name in REBUILDERS:
            self.stack.append(_tensor(name, *arguments))
        elif module == "torch._utils" and name in PARAMETERS and isinstance(arguments[0], PickledTensor):
            self.stack.append(arguments[0])
        elif function.name in HARMLESS:
            self.stack.append(OTHER)
        else:
            raise RefusedError(UNSAFE)


Step = Callable[[Machine, Any], None]


def _pack_last(count: int) -> Step:
    def pack(machine: Machine, _argument: Any) -> None:
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return pack


def _constant(value: Any) -> Step:
    return lambda machine, _argument: machine.stack.append(value)


def _tensor(function: str, storage: Storage, offset: int, shape: Any, stride: Any, *rest: Any) -> PickledTensor:
    """torch._utils' functions differ in what follows: the third names the dtype."""
    dtype = storage.dtype
    if function == "_rebuild_tensor_v3":
        dtype = getattr(torch, rest[2].name.removeprefix("torch "), None)
    if len(shape) != len(stride) or len(shape) > MAX_AXES:
        raise ValueError("a shape that is none")
    numbers = (offset, *shape, *stride)
    if not isinstance(dtype, torch.dtype) or not all(type(each) is int and each >= 0 for each in numbers):
        raise ValueError("a tensor that is none")
    return PickledTensor(storage, dtype, offset, tuple(shape), tuple(stride))


STEPS: dict[str, Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), Machine.skip),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"), Machine.push),
    **{"BINFLOAT": Machine.push, "NONE": _constant(None), "NEWTRUE": _constant(True), "NEWFALSE": _constant(False)},
    **{"MARK": Machine.mark, "EMPTY_DICT": Machine.push_table, "EMPTY_LIST": Machine.push_other},
    **{"EMPTY_TUPLE": _constant(()), "TUPLE": Machine.pack},
    **{f"TUPLE{count}": _pack_last(count) for count in (1, 2, 3)},
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), Machine.recall),
    **{"APPEND": Machine.drop, "BUILD": Machine.drop, "APPENDS": Machine.drop_many},
    **{"SETITEM": Machine.set_item, "SETITEMS": Machine.set_items},
    **{"GLOBAL": Machine.name, "STACK_GLOBAL": Machine.name_on_stack},
    **{"BINPERSID": Machine.storage, "REDUCE": Machine.call},
}


def pickled_tensors(data: bytes) -> dict[str, PickledTensor]:
    """The tensors of a pickled dict of dicts, by their keys joined with dots.

    Raises RefusedError for anything that torch.save does not write for weights, ValueError and others for damage.
    """
    if len(data) > MAX_PICKLE:
        raise RefusedError("holds an index of more than 8 MB; use another file")
    file, machine = io.BytesIO(data), Machine()
    for _ in range(MAX_STEPS):
        code = CODES[file.read(1).decode("latin-1")]
        if code.name == "STOP":
            break
        if code.name not in STEPS:
            raise RefusedError(UNSAFE)
        STEPS[code.name](machine, None if code.arg is None else code.arg.reader(file))
    else:
        raise RefusedError("holds far too many entries; use another file")
    top = machine.stack.pop()
    if not isinstance(top, Table):
        raise RefusedError("holds no weights by name; use another file")
    return _flatten(top, "", 0, set())


def _flatten(table: Table, prefix: str, depth: int, visited: set[int]) -> dict[str, PickledTensor]:
    """Tensors by their full keys; RefusedError if a table occurs twice, which torch.save never writes."""
    if depth > MAX_DEPTH or id(table) in visited:
        raise RefusedError("holds entries within entries, too deep or repeated; use another file")
    visited.add(id(table))
    flat: dict[str, PickledTensor] = {}
    for key, value in table.items.items():
        if len(prefix) + len(key) > MAX_KEY:
            raise ValueError("a name that is none")
        if isinstance(value, PickledTensor):
            flat[prefix + key] = value
        elif isinstance(value, Table):
            flat |= _flatten(value, f"{prefix}{key}.", depth + 1, visited)
        if len(flat) > MAX_TENSORS:
            raise RefusedError(f"holds more than {MAX_TENSORS} tensors; use another file")
    return flat
