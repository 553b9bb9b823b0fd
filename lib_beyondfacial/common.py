"""Constants and file functions that both adapters and faces need; neither imports the other."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

EMBEDDING_SIZE = 512  # numbers of an ArcFace embedding
SHORT_HASH = 10  # hex digits by which a file or a set of photos is named


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; OSError for a pipe, socket or device, because reading one can block forever."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("no regular file")
    return file


def hash_file(path: Path) -> str:
    """The file's SHA-256, in 64 hex digits."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
