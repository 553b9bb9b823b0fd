"""Encoded texts of the last requests, so that the same prompts do not bring the text encoder back into memory.

They are kept by model and go with it. What decides an encoding is asked of the host, whose own cache has the same key.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from .types import HostModel, Processing

KEPT = 8  # encodings a model; a request asks for two to four
Key = list[object]

_kept: weakref.WeakKeyDictionary[HostModel, list[tuple[Key, Any]]] = weakref.WeakKeyDictionary()


def encode_once(p: Processing, texts: Sequence[str], given: tuple[object, ...], encode: Callable[[], Any]) -> Any:
    """What `encode` gives for these texts, or what it gave before for the same texts, model and options.

    Args:
        given: whatever else `encode` hands to the host, as the size.
    """
    key = key_of(p, texts, given)
    if key is None:
        return encode()
    kept = _kept.setdefault(p.sd_model, [])
    found = next((entry for entry in kept if entry[0] == key), None)
    if found is None:
        found = key, encode()
    else:
        kept.remove(found)
    kept.append(found)  # the last one is the latest
    del kept[:-KEPT]
    return found[1]


def key_of(p: Processing, texts: Sequence[str], given: tuple[object, ...]) -> Key | None:
    """All that decides an encoding; None for a host that keeps none itself, and so does not tell what decides it."""
    cached_params = getattr(p, "cached_params", None)
    if cached_params is None:
        return None
    networks = [getattr(p, name, None) for name in ("extra_network_data", "hr_extra_network_data", "is_hr_pass")]
    return [list(texts), given, networks, cached_params(list(texts), 0, networks[0], None)]
