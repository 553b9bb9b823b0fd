"""Identity units of sd-webui-controlnet, confined to their person's line.

Its IP-Adapter, FaceID, InstantID and PuLID replace the `forward` of every attn2 by one function, which adds what the
functions in the block's list `ipadapter_hacks` return. Ours are taken off these lists for the whole pass; on the
identity line's rows our hooks call them. They read the rows' marks from the UNet, and keep keys and values by layer
alone, so each count of rows gets a cache of its own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import BeyondFacialError
from ...sampling.plan import Plan
from ...unet.control import attach_control
from ...unet.rows import LineRows
from ...unet.sites import AttentionSite
from ..identity_units import UnitInjection, draw_landmarks, keep_input, mode_of, units_of, value_of
from ..model import LATENT_FACTOR
from ..patches import Patches
from ..types import Processing
from .controlnet import find_network

HACKS = "ipadapter_hacks"  # of an attn2: ControlNet's functions
ORIGINALS = "all_hacks"  # of ControlNet's module: attn2 -> its own forward
IS_IDENTITY = ("is_faceid", "is_instantid", "is_pulid", "is_portrait")  # of an IP-Adapter's weights
IDENTITYNET = "InstantID"  # the control type of its ControlNet; its attention is an IP-Adapter
SOFT, LAST_BLOCK = 0.825, 12  # ControlNet's own numbers
FACE = "face"  # in the name of the picture adapters that were trained on faces (plus-face, full-face)


@dataclass(eq=False)
class Found:
    """A unit in use: ControlNet's parameters of it, the UNet that it is attached to, and its function at each attn2.

    nets: the parameters of InstantID's IdentityNet, which reads this unit's face. is_open: whether they act now.
    low_vram: whether ControlNet moves them to the GPU module by module, for each call anew.
    caches: count of rows -> the unit's keys and values for it.
    """

    param: Any
    unet: nn.Module
    branches: dict[nn.Module, Callable]
    nets: tuple[Any, ...] = ()
    low_vram: bool = False
    is_open: bool = False
    caches: dict[int, dict] = field(default_factory=dict)

    @property
    def model(self) -> Any:
        return self.param.control_model


class A1111Unit(UnitInjection):
    """A unit of sd-webui-controlnet that draws a person. found: from `find` on, until the pass ends."""

    found: Found | None = None

    @contextmanager
    def confined(self, p: Processing) -> Iterator[None]:
        assert self.found is not None, "find comes first"
        patches = Patches()
        try:
            for block, branch in self.found.branches.items():
                others = [each for each in getattr(block, HACKS) if each is not branch]
                patches.set(block, HACKS, others)
                if not others:
                    patches.set(block, "forward", self.original_forward(block))
            for net in self.found.nets:
                patches.set(net, "disabled_by_hr_option", closed(self.found, net.disabled_by_hr_option))
            yield
        finally:
            patches.undo()
            self.found = None

    def find(self, p: Processing) -> None:
        network = find_network(p)
        params = list(getattr(network, "control_params", None) or [])
        counts = [count_params(unit) for unit in self.given.units_on]
        if network is None or len(params) != sum(counts):
            raise self.refused("was not prepared by ControlNet as it was given (see the console)")
        param = params[sum(counts[: self.given.place])]
        kind = getattr(getattr(param, "control_model_type", None), "name", "")
        if kind == IDENTITYNET:
            raise self.refused("is InstantID's IdentityNet, which follows its person; name the unit before it")
        if kind != "IPAdapter" or not self.draws_faces(param.control_model):
            raise self.refused("does not draw a given face")
        unet, branches = network.model, {}
        for block in unet.modules():
            for function in getattr(block, HACKS, None) or []:
                if belongs_to(function, param.control_model):
                    branches[block] = function
        if not branches:
            raise self.refused("has not reached the model's attention, so it cannot be confined")
        self.found = Found(param, unet, branches, nets_of(param, params), bool(getattr(network, "lowvram", False)))

    def draws_faces(self, model: Any) -> bool:
        """Whether an IP-Adapter was made for faces, by its weights; those of plus-face differ in their name alone."""
        weights = getattr(model, "ipadapter", None)
        return any(getattr(weights, name, False) for name in IS_IDENTITY) or FACE in self.given.model.lower()

    def original_forward(self, block: nn.Module) -> Callable:
        """The attention's own forward, which ControlNet has put aside."""
        originals = getattr(sys.modules[type(self.found.model).__module__], ORIGINALS, {})
        if block not in originals:
            raise self.refused("is of a ControlNet that keeps no way back to the model's attention")
        return originals[block]

    @contextmanager
    def attention(self, sites: Sequence[AttentionSite], where: LineRows, weight: float) -> Iterator[UnitAttention]:
        if self.found is None:
            raise BeyondFacialError(f"{self.given.label} was not confined before the identity line ran.")
        inputs: dict[int, Tensor] = {}
        with ExitStack() as hooks:
            for number, site in enumerate(sites):
                leaf = site.leaf("to_q")
                hooks.callback(leaf.register_forward_pre_hook(keep_input(inputs, number)).remove)
            for net in self.found.nets:
                acting = on_crop if where.is_crop else opened
                hooks.enter_context(acting(self.found, net, where, weight))
            yield UnitAttention(self.found, sites, where, inputs)


@dataclass(frozen=True, eq=False)
class UnitAttention:
    """unet.injection.IdentityAttention by ControlNet's own functions."""

    found: Found
    sites: Sequence[AttentionSite]
    where: LineRows
    inputs: dict[int, Tensor]

    def __call__(self, site: int, query: Tensor, text_out: Tensor, images: Sequence[int]) -> Tensor:
        block, hidden = self.sites[site].attn2, self.inputs.pop(site)[self.where.rows]
        branch = self.found.branches.get(block)
        if branch is None:
            return torch.zeros_like(text_out)
        heads = query.unflatten(-1, (self.sites[site].site.heads, -1)).transpose(1, 2)
        with self.as_cond(query):
            added = branch(block, hidden, heads)
        return added if isinstance(added, Tensor) else torch.zeros_like(text_out)  # 0.0 outside the unit's own steps

    def lora(self, module: str, site: int, leaf: str) -> None:
        """The LoRA of a FaceID unit is in the prompt, and so on both lines."""

    @contextmanager
    def as_cond(self, query: Tensor) -> Iterator[None]:
        """Let the unit see these rows alone, all of them conds; a crop without the unit's region and steps."""
        patches, model, rows = Patches(), self.found.model, len(query)
        patches.set(self.found.unet, "cond_mark", query.new_ones(rows, 1, 1, 1))
        patches.set(model, "cache", self.found.caches.setdefault(rows, {}))
        if self.where.is_crop:
            patches.set(model, "effective_region_mask", None)
            patches.set(self.found.unet, "current_sampling_percent", (model.p_start + model.p_end) / 2)
        try:
            yield
        finally:
            patches.undo()


def nets_of(param: Any, params: Sequence[Any]) -> tuple[Any, ...]:
    """The parameters of the IdentityNets that read this unit's face."""
    face = getattr(param.control_model, "image_emb", None)
    named = (each for each in params if getattr(each.control_model_type, "name", "") == IDENTITYNET)
    return tuple(each for each in named if each.control_context_override is face)


def closed(found: Found, original: Callable[[bool], bool]) -> Callable[[bool], bool]:
    """An IdentityNet's own question whether it is off, with yes outside the identity line's calls."""
    return lambda is_hires: not found.is_open or original(is_hires)


def scales_of(net: Any, count: int) -> list[float]:
    """By what ControlNet multiplies what a net adds, block by block."""
    if (by_block := getattr(net, "advanced_weighting", None)) is not None:
        return list(by_block)
    if getattr(net, "soft_injection", False):  # "My prompt is more important"
        return [net.weight * SOFT ** (LAST_BLOCK - block) for block in range(count)]
    return [net.weight] * count


def count_params(unit: Any) -> int:
    """Of how many units ControlNet makes one that is on: of several pictures, one each, except an IP-Adapter's."""
    image = value_of(unit, "image", None)
    is_several = mode_of(unit) == "merge" and isinstance(image, list)
    return len(image) if is_several and not getattr(unit, "accepts_multiple_inputs", False) else 1


@contextmanager
def opened(found: Found, net: Any, where: LineRows, weight: float) -> Iterator[None]:
    """Let ControlNet run an IdentityNet, which then acts on all rows of the call: only the identity line's count."""
    patches = Patches()
    patches.set(found, "is_open", True)
    patches.set(net, "weight", net.weight * weight)
    if (by_block := getattr(net, "advanced_weighting", None)) is not None:  # acts in place of the weight
        patches.set(net, "advanced_weighting", [weight * each for each in by_block])
    try:
        yield
    finally:
        patches.undo()


@contextmanager
def on_crop(found: Found, net: Any, where: LineRows, weight: float) -> Iterator[None]:
    """Run an IdentityNet on crops, which bypass ControlNet, with the landmarks of the face in each."""

    def residuals(x: Tensor, timesteps: Tensor, vector: Tensor | None) -> list[Tensor]:
        side, ones = x.shape[-1] * LATENT_FACTOR, x.new_ones(len(x), 1, 1, 1)
        drawn = [np.zeros((3, side, side)) if each is None else draw_landmarks(each, side) for each in where.landmarks]
        hint, face = torch.from_numpy(np.stack(drawn)).to(x), net.control_context_override.eval(ones).to(x)
        if isinstance(net.control_model, nn.Module) and not found.low_vram:
            net.control_model.to(x.device)
        added = net.control_model(x=x, hint=hint, timesteps=timesteps, context=face, y=vector)
        if isinstance(net.control_model, nn.Module) and found.low_vram:
            net.control_model.to("cpu")
        has_face = x.new_tensor([each is not None for each in where.landmarks])[:, None, None, None]
        scales = scales_of(net, len(added))
        return [scale * weight * has_face * each for scale, each in zip(scales, added, strict=True)]

    with attach_control(found.unet, where.rows, residuals):
        yield


def belongs_to(function: Callable, model: Any) -> bool:
    """Whether ControlNet's function at an attention is a closure over this unit's model."""
    cells = inspect.unwrap(function).__closure__ or ()
    return any(cell.cell_contents is model for cell in cells)


def confined_params(plan: Plan) -> list[Any]:
    """ControlNet's parameters of the units that are confined now."""
    found = (unit.found for unit in units_of(plan) if isinstance(unit, A1111Unit))
    return [param for each in found if each is not None for param in (each.param, *each.nets)]
