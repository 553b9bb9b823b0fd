"""Small private files: reads only plain files, and writes files completely or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ..errors import BeyondFacialError
from .identity_file import MAX_FILE

T = TypeVar("T")
TEMPORARY = ".saving-"
STALE_S = 60.0  # a temporary file older than this is from a killed save; a save takes a second
START_STALE_S = 5.0  # at a start, when only another web UI with the same folder could be saving
SHARING_VIOLATIONS = (5, 32)  # Windows' error numbers for files that another program has open
PATIENCE_S = 2.0  # seconds to wait for another program to close a file


class UnknownIdentityError(BeyondFacialError):
    """There is no saved identity of that name."""


def require_plain(path: Path, name: str) -> os.stat_result:
    """The stat of a plain file; BeyondFacialError for links and everything else."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise BeyondFacialError(f'The saved identity "{name}" is a link or no file; remove it by hand.')
    return found


def read_plain(path: Path, name: str) -> bytes:
    """A plain file's bytes; its size is checked first."""
    size = require_plain(path, name).st_size
    if size <= MAX_FILE:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        handle = when_let_go(lambda: os.open(path, flags | getattr(os, "O_NONBLOCK", 0)))
        with os.fdopen(handle, "rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) <= MAX_FILE:
            return data
    raise BeyondFacialError(f'The file of the saved identity "{name}" is far too large to be one; delete it.')


def write_plain(path: Path, data: bytes) -> None:
    """Write a file atomically and flush it to disk; only the owner may read it, as it is about a person."""
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        when_let_go(lambda: Path(temporary).replace(path))
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    with contextlib.suppress(OSError):  # Windows has no handles of folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def when_let_go(action: Callable[[], T]) -> T:
    """Call the function; retry for a while if Windows says that another program has the file open."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except PermissionError as error:
            if getattr(error, "winerror", None) not in SHARING_VIOLATIONS or time.monotonic() > end:
                raise
        time.sleep(0.02)


def unknown(name: str) -> UnknownIdentityError:
    return UnknownIdentityError(f'There is no saved identity "{name}"; choose one from the list.')


@contextlib.contextmanager
def explain_os_errors(done: str, name: str) -> Iterator[None]:
    """Turn OSError into BeyondFacialError without paths; done: "saved", "read", ...

    A missing file becomes UnknownIdentityError, unless it was to be saved: somebody else has deleted it.
    """
    try:
        yield
    except FileNotFoundError as error:
        if done == "saved":
            raise BeyondFacialError(
                f'The identity "{name}" cannot be saved (its folder is gone); look after the folder.'
            ) from error
        raise unknown(name) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BeyondFacialError(
            f'The identity "{name}" cannot be {done} ({reason}); look after the folder.'
        ) from error


def sweep_temporaries(folder: Path, age: float = STALE_S) -> None:
    """Delete temporary files of killed saves older than `age` seconds, because they are about a person, too."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > age:
                path.unlink()
