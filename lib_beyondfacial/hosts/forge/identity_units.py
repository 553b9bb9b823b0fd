"""Identity units of a Forge's built-in ControlNet, confined to their person's line.

Its IP-Adapter puts one `CrossAttentionPatch` in place of every cross-attention; all such units share it, each with an
entry in nine parallel lists. Ours are taken out of copies of the patches for the whole pass; on the identity line's
rows our hooks call a copy that holds ours alone. Given no text (keys and values 0), it returns the unit's part only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import BeyondFacialError
from ...unet.rows import LineRows
from ...unet.sites import AttentionSite
from ..identity_units import UnitInjection, find_script, value_of
from ..patches import Patches
from ..types import ModelOptions, Processing

TRANSFORMER, REPLACED = "transformer_options", ("patches_replace", "attn2")
LISTS = (
    "weights",
    "ipadapters",
    "conds",
    "unconds",
    "weight_type",
    "masks",
    "sigma_start",
    "sigma_end",
    "unfold_batch",
)
IP_ADAPTER, PHOTOMAKER = "IPAdapterPatcher", "PhotomakerPatcher"  # classes of a unit's model
FACE = "face"  # in the name of the picture adapters that were trained on faces (plus-face, full-face)
INSTANTID = "controlnet_conditioning_modifiers"  # of the options: what InstantID gives to every ControlNet
ALWAYS = (float("inf"), -1.0)  # the noise levels between which a unit acts on a crop
HIRES_OPTIONS = ("both", "low res only", "high res only")


@dataclass(eq=False)
class Found:
    """A unit in use.

    module: its weights, by which its entry is known in every patch. patches: by number of the site, that entry alone,
    for the whole picture and for crops. level: sigma and latent shape of the present UNet call.
    """

    unet: nn.Module
    module: Any
    patches: dict[int, tuple[Any, Any]]
    level: dict[str, Any] = field(default_factory=dict)


class ForgeUnit(UnitInjection):
    """A unit of a Forge's ControlNet that draws a person. found: from `find` on, until the pass ends."""

    found: Found | None = None

    def find(self, p: Processing) -> None:
        """Find the unit's entry; none in a pass from which its own hires option keeps it."""
        params = getattr(find_script(p), "current_params", None) or {}
        drawing = params.get(self.given.place)
        if drawing is None:
            raise self.refused("was not prepared by ControlNet (see the console)")
        options = p.sd_model.forge_objects.unet.model_options.get(TRANSFORMER, {})
        if is_ip_adapter(drawing) and options.get(INSTANTID):
            raise self.refused(
                "is InstantID's or stands beside it, which cannot be confined to a person on this web UI"
            )
        if class_of_model(drawing) == PHOTOMAKER:
            raise self.refused("is PhotoMaker's, which rewrites the whole picture's prompt, so it cannot be confined")
        if not is_ip_adapter(drawing) or not self.draws_faces(drawing):
            raise self.refused("does not draw a given face")
        patches = list(attention_patches(options).values())
        units = self.given.units_on
        acting = [n for n, each in params.items() if is_ip_adapter(each) and acts_in_pass(units[n], p)]
        unet = p.sd_model.forge_objects.unet.model.diffusion_model
        if self.given.place not in acting:
            self.found = Found(unet, None, {})
            return
        if not patches or any(entries_of(patch) != len(acting) for patch in patches):
            raise self.refused("stands beside another extension in the model's attention, so it cannot be confined")
        index = acting.index(self.given.place)
        if not isinstance(patches[0].weights[index], (int, float)):
            raise self.refused("has a weight for each block, with which it cannot be confined on this web UI")
        self.found = Found(
            unet, patches[0].ipadapters[index], {patch.number: alone(patch, index) for patch in patches}
        )

    def draws_faces(self, params: Any) -> bool:
        """Whether an IP-Adapter was made for faces, by its weights; those of plus-face differ in their name alone."""
        weights = getattr(params.model, "ip_adapter", {})
        images, layers = weights.get("image_proj", {}), weights.get("ip_adapter", {})
        is_portrait = "proj.2.weight" in images and "proj.3.weight" not in images
        return is_portrait or any("lora" in name for name in layers) or FACE in self.given.model.lower()

    @contextmanager
    def confined(self, p: Processing) -> Iterator[None]:
        patches, unet = Patches(), p.sd_model.forge_objects.unet
        try:
            if self.found is not None and self.found.module is not None:
                patches.set(unet, "model_options", without_unit(unet.model_options, self.found.module))
            yield
        finally:
            patches.undo()
            self.found = None

    @contextmanager
    def attention(self, sites: Sequence[AttentionSite], where: LineRows, weight: float) -> Iterator[UnitAttention]:
        if self.found is None:
            raise BeyondFacialError(f"{self.given.label} was not confined before the identity line ran.")
        found = self.found

        def note_level(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            sigmas = kwargs[TRANSFORMER]["sigmas"]
            found.level.update(sigmas=sigmas, original_shape=args[0].shape)

        handle = found.unet.register_forward_pre_hook(note_level, with_kwargs=True, prepend=True)
        try:
            yield UnitAttention(found, sites, where)
        finally:
            handle.remove()


@dataclass(frozen=True, eq=False)
class UnitAttention:
    """unet.injection.IdentityAttention by the host's own patch."""

    found: Found
    sites: Sequence[AttentionSite]
    where: LineRows

    def __call__(self, site: int, query: Tensor, text_out: Tensor, images: Sequence[int]) -> Tensor:
        if site not in self.found.patches:
            return torch.zeros_like(text_out)
        patch = self.found.patches[site][self.where.is_crop]
        nothing = query.new_zeros(len(query), 1, query.shape[-1])
        options = {"cond_or_uncond": [0], "n_heads": self.sites[site].site.heads, **self.found.level}
        return patch(query, nothing, nothing, options)

    def lora(self, module: str, site: int, leaf: str) -> None:
        """The LoRA of a FaceID unit is in the prompt, and so on both lines."""


def class_of_model(params: Any) -> str:
    return type(params.model).__name__


def is_ip_adapter(params: Any) -> bool:
    return class_of_model(params) == IP_ADAPTER


def acts_in_pass(unit: Any, p: Processing) -> bool:
    """Whether the unit's own hires option lets it act in this pass."""
    if not getattr(p, "enable_hr", False):
        return True
    option = value_of(unit, "hr_option", "both")
    if isinstance(option, int):  # of the API: the place in the host's list
        option = HIRES_OPTIONS[option] if 0 <= option < len(HIRES_OPTIONS) else "both"
    name = str(getattr(option, "value", option)).lower().replace("_", " ")
    return ("low res" if getattr(p, "is_hr_pass", False) else "high res") not in name


def attention_patches(options: Mapping[str, Any]) -> dict[Any, Any]:
    """The cross-attentions' replacements, by block; those that are not IP-Adapter's are left out."""
    for name in REPLACED:
        options = options.get(name, {})
    return {block: patch for block, patch in options.items() if all(hasattr(patch, name) for name in LISTS)}


def entries_of(patch: Any) -> int:
    return len(patch.ipadapters)


def alone(patch: Any, index: int) -> tuple[Any, Any]:
    """A patch with one of its entries only: as it is for the whole picture, and at all levels and everywhere."""
    whole = copy.copy(patch)
    for name in LISTS:
        setattr(whole, name, [getattr(patch, name)[index]])
    crop = copy.copy(whole)
    crop.masks, (crop.sigma_start, crop.sigma_end) = [None], ([level] for level in ALWAYS)
    return whole, crop


def without_unit(model_options: ModelOptions, module: Any) -> ModelOptions:
    """The options without a unit's entries; all else is as it was, and nothing of the host's is changed."""
    options = dict(model_options[TRANSFORMER])
    kinds = dict(options[REPLACED[0]])
    blocks = dict(kinds[REPLACED[1]])
    for block, patch in attention_patches(options).items():
        kept = [n for n, each in enumerate(patch.ipadapters) if each is not module]
        if not kept:
            del blocks[block]
            continue
        blocks[block] = copy.copy(patch)
        for name in LISTS:
            setattr(blocks[block], name, [getattr(patch, name)[n] for n in kept])
    kinds[REPLACED[1]] = blocks
    options[REPLACED[0]] = kinds
    return {**model_options, TRANSFORMER: options}
