"""Finds which extension a function of the host belongs to, and the error sentence for unexpected exceptions."""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable
from pathlib import Path

from ..errors import BeyondFacialError, printable
from ..method.mask import NoAttentionError

FOLDERS = ("extensions", "extensions-builtin")  # of the hosts; each extension is one folder in them
PACKAGE = Path(__file__).parents[1]
AROUND_THE_HOST = ("run.py", "request.py")  # of hosts/: they wrap the host's sampling, so they are in every traceback
NO_ATTENTION = (
    "BeyondFacial: no cross-attention of this UNet could be read, so the mask cannot follow the head; switch off the "
    'extensions that change the model\'s attention or split the picture, or set "mask_mode" to "whole".'
)
PATH_LIKE = re.compile(r"(?:[A-Za-z]:)?[\\/]\S*")


def file_of(function: Callable) -> str:
    """The source file of a function, a bound method, a partial or a callable object; "" if unknown."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return "" if code is None else code.co_filename


def is_ours(function: Callable) -> bool:
    return Path(file_of(function)).is_relative_to(PACKAGE)


def extension_at(filename: str) -> str | None:
    """The name of the extension that a source file belongs to; None for files of the host and ours."""
    path = Path(filename)
    parents = path.parts[:-1]
    folders = [i for i, part in enumerate(parents[:-1]) if part in FOLDERS]
    return parents[folders[-1] + 1] if folders and not path.is_relative_to(PACKAGE) else None


def extension_of(function: Callable) -> str | None:
    """The name of the extension that defines a function; None for functions of the host and ours."""
    return extension_at(file_of(function))


def is_raised_by_us(error: BaseException) -> bool:
    """Whether a file of ours is in the traceback, apart from those that wrap the host's whole sampling."""
    files = (Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__))
    return any(
        file.is_relative_to(PACKAGE) and not (file.parent.name == "hosts" and file.name in AROUND_THE_HOST)
        for file in files
    )


def sentence_of(error: BaseException) -> str:
    """The sentence for the user; for errors other than BeyondFacialError the traceback goes to the console."""
    if isinstance(error, BeyondFacialError):
        return str(error)
    if isinstance(error, NoAttentionError):
        return NO_ATTENTION
    traceback.print_exception(error)
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "BeyondFacial: the identity line ran out of memory; choose a smaller size or batch, or switch "
            '"refine_head" off.'
        )
    text = PATH_LIKE.sub("...", (str(error).splitlines() or [""])[0])
    what = f"{type(error).__name__}: {printable(text)}" if text else type(error).__name__
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    names = [name for name in map(extension_at, files) if name]
    if names:
        return (
            f'BeyondFacial: the extension "{names[-1]}" failed on a model call of the identity line ({what}); switch '
            "it off for this run."
        )
    return f"BeyondFacial: internal error ({what}), see the console."
