"""The cross-attentions of a UNet, in the order of IP-Adapter files.

`attn2` modules carry the text; the i-th of them (from 0) is number `N = 2 i + 1` in an adapter file, and the
self-attention beside it, its twin, is `N = 2 i`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from ..errors import BeyondFacialError, printable

_PARTS = {"input_blocks": 0, "down_blocks": 0, "output_blocks": 1, "up_blocks": 1, "middle_block": 2, "mid_block": 2}
_LEAVES = ("to_q", "to_k", "to_v", "to_out")


class Site(NamedTuple):
    """The shape of one cross-attention.

    name: the module's, ending in "attn2".
    width: to_q.out_features, the h of an adapter file's (h, C) weights.
    heads: of the attention.
    context_dim: to_k.in_features, the C.
    """

    name: str
    width: int
    heads: int
    context_dim: int


@dataclass(frozen=True, eq=False)
class AttentionSite:
    """One cross-attention module of a UNet, and the self-attention beside it (None where there is none)."""

    site: Site
    attn2: nn.Module
    attn1: nn.Module | None

    @property
    def in_decoder(self) -> bool:
        """Whether it is in the UNet's decoder; only there do attention maps locate the head (docs/method.md)."""
        return "output_blocks" in self.site.name or "up_blocks" in self.site.name

    def leaf(self, name: str) -> nn.Module:
        """A linear layer of the cross-attention: "to_q", "to_k", "to_v" or "to_out.0"."""
        return self.attn2.get_submodule(name)


def enumerate_sites(unet: nn.Module) -> list[AttentionSite]:
    """The UNet's cross-attentions in the order in which adapter files number them.

    They are the modules named `attn2` that have to_q, to_k, to_v and to_out; BeyondFacialError for an unknown layout.
    """
    modules = dict(unet.named_modules())
    named_attn2 = {name: module for name, module in modules.items() if name.split(".")[-1] == "attn2"}
    sites = []
    for name in adapter_order(n for n, module in named_attn2.items() if all(hasattr(module, x) for x in _LEAVES)):
        module = modules[name]
        width, context = module.to_q.weight.shape[0], module.to_k.weight.shape[1]
        site = Site(name, width, int(getattr(module, "heads", 0) or width // 64), context)
        sites.append(AttentionSite(site, module, modules.get(attn1_twin(name))))
    return sites


def adapter_order(names: Iterable[str]) -> list[str]:
    """Module names of attention sites in the order of adapter files, for ldm's and diffusers' names alike.

    The order is: down (input) blocks, up (output) blocks, middle block; by number within each. A prefix such as
    "diffusion_model." is ignored. Raises BeyondFacialError for a name outside these blocks.
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
        raise BeyondFacialError(
            f'This model\'s UNet has an unknown layout ("{printable(name)}"); choose an SD1.5 or SDXL model.'
        )
    return _PARTS[found[1]], [int(number) for number in re.findall(r"(?<=\.)\d+(?=\.|$)", name[found.end() :])]
