"""The cross-attentions of a UNet, in the order of IP-Adapter files.

`attn2` modules carry the text; the i-th of them (from 0) is number `N = 2 i + 1` in an adapter file, and the
self-attention beside it, its twin, is `N = 2 i`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from ..errors import BeyondFacialError, printable

_PARTS = {"input_blocks": 0, "down_blocks": 0, "output_blocks": 1, "up_blocks": 1, "middle_block": 2, "mid_block": 2}
_LEAVES = ("to_q", "to_k", "to_v", "to_out")


class Site(NamedTuple):
    """The shape of one cross-attention.

    name: the module's, ending in "attn2".
    width: of to_q's output, the h of an adapter file's (h, C) weights.
    heads: of the attention.
    context_dim: of to_k's input, the C.
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
        width, context = leaf_widths(module.to_q, f"{name}.to_q")[1], leaf_widths(module.to_k, f"{name}.to_k")[0]
        site = Site(name, width, int(getattr(module, "heads", 0) or width // 64), context)
        sites.append(AttentionSite(site, module, modules.get(attn1_twin(name))))
    return sites


def leaf_widths(leaf: nn.Module, name: str = "leaf") -> tuple[int, int]:
    """The input's and output's width of a linear layer: its own word, else its weight's shape (out, in).

    A quantised weight's shape is that of its packed bytes. BeyondFacialError where nothing else tells the widths.
    """
    in_features, out_features = getattr(leaf, "in_features", None), getattr(leaf, "out_features", None)
    if in_features is not None and out_features is not None:
        return in_features, out_features
    weight = getattr(leaf, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():  # noqa: PLR2004
        raise BeyondFacialError(
            f'BeyondFacial cannot read the width of "{printable(name)}" ({type(leaf).__name__}): this model is '
            "quantised in a way that hides it; load it in fp16, bf16 or fp8."
        )
    return weight.shape[1], weight.shape[0]


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
