"""What adapters and faces share, which do not know each other."""

from __future__ import annotations

import hashlib
from pathlib import Path

EMBEDDING_SIZE = 512  # numbers of an ArcFace embedding
SHORT_HASH = 10  # hex digits by which a file or a set of photos is named


def hash_file(path: Path) -> str:
    """The file's SHA-256, in 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
