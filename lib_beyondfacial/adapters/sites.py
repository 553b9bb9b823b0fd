"""The order in which adapter files number a UNet's attention sites: down, up, middle last.

Site i (from 0) is `N = 2 i + 1` in an IP-Adapter file; its self-attention twin is `N = 2 i`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PARTS = {"input_blocks": 0, "down_blocks": 0, "output_blocks": 1, "up_blocks": 1, "middle_block": 2, "mid_block": 2}


class Site(NamedTuple):
    """One cross-attention of the host's UNet.

    name: the module's, ending in "attn2".
    width: to_q.out_features, the h of the file's (h, C) weights.
    heads: of the attention.
    context_dim: to_k.in_features, the C.
    """

    name: str
    width: int
    heads: int
    context_dim: int


def adapter_order(names: Iterable[str]) -> list[str]:
    """Module names of attention sites in the order of adapter files, for ldm's and diffusers' names alike.

    Down (input) blocks, up (output) blocks, the middle block last; by number within each. Whatever stands before the
    block's name ("diffusion_model.") does not matter. Raises ValueError for a name outside those blocks.
    """
    return sorted(names, key=_key)


def attn1_twin(name: str) -> str:
    """The self-attention beside a cross-attention: "...blocks.0.attn2" -> "...blocks.0.attn1"."""
    if not name.endswith("attn2"):
        raise ValueError(f"{name!r} is not the name of an attn2 module")
    return f"{name[: -len('attn2')]}attn1"


def _key(name: str) -> tuple[int, list[int]]:
    found = re.search(rf"(?:^|\.)({'|'.join(_PARTS)})(?=\.|$)", name)
    if found is None:
        raise ValueError(f"{name!r} lies in no known block of a UNet")
    return _PARTS[found[1]], [int(number) for number in re.findall(r"(?<=\.)\d+(?=\.|$)", name[found.end() :])]
