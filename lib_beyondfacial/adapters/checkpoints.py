"""Recognises adapter files: the family by keys and shapes, else by hash or name; checks that nothing is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..common import EMBEDDING_SIZE
from ..errors import BeyondFacialError
from .families import FAMILIES, Family
from .files import Weights
from .layouts import check_finite, check_lora, check_sites, size

AUTO = "auto"
BASE_MODELS = {768: "SD1.5", 1024: "SD2", 2048: "SDXL"}
CANDIDATES = {  # layout -> families that have its keys and shapes; pairs differ in no key or shape
    "faceid": ("faceid",),
    "portrait": ("portrait",),
    "faceid_plus": ("faceid_plus", "faceid_plus_v2"),
    "instantid": ("instantid", "portrait_unnorm"),
}
REFUSED = {
    "photomaker": "PhotoMaker",
    "pulid": "PuLID",
    "pulid_flux": "PuLID for Flux",
    "clip_plus": "IP-Adapter Plus",
    "ip_adapter": "plain IP-Adapter",
    "faceid_lora": "FaceID LoRA",
}
SUPPORTED_HINT = "an IP-Adapter FaceID or InstantID file"


@dataclass(frozen=True)
class AdapterSpec:
    """What an adapter file is.

    family: a key of families.FAMILIES.
    tokens: identity tokens per face.
    context_dim: C, the width of the text context it was made for.
    site_widths: h of each cross-attention site, in the order of N = 1, 3, 5, ... (sites.adapter_order).
    has_lora: whether it carries a LoRA for attn1 and attn2.
    """

    family: str
    tokens: int
    context_dim: int
    site_widths: tuple[int, ...]
    has_lora: bool

    @property
    def facts(self) -> Family:
        return FAMILIES[self.family]

    @property
    def pack(self) -> str:
        """The face pack whose embeddings it was trained on."""
        return self.facts.pack

    @property
    def features(self) -> tuple[str, ...]:
        """The features of the person that it needs, keys of features.FEATURES."""
        return self.facts.features

    @property
    def base(self) -> str:
        """The name of the kind of model that it was made for."""
        return base_model(self.context_dim)


def base_model(context_dim: int) -> str:
    return BASE_MODELS.get(context_dim, f"a model of context width {context_dim}")


def describe(
    weights: Weights,
    name: str = "the adapter",
    family: str = AUTO,
    name_hints: Sequence[str] = (),
    sha256: Callable[[], str] | None = None,
) -> AdapterSpec:
    """Recognise the family, and check that the file is whole.

    Args:
        family: the user's choice, for files whose shapes fit two families; "auto": recognise it.
        name_hints: names that may show the family, the strongest first (file, folder).
        sha256: returns the file's hash; called only if the shapes fit two families.

    Raises BeyondFacialError for another family, an unknown layout, missing keys, shapes that do not fit together, and
    if the family stays open, so that the user has to set it. Weights on the meta device are not checked for finite
    numbers.
    """
    layout = recognise(weights)
    if layout is None:
        raise BeyondFacialError(f'"{name}" holds no identity adapter; choose {SUPPORTED_HINT}.')
    if layout in REFUSED:
        raise BeyondFacialError(f'"{name}" is a {REFUSED[layout]} file; use {SUPPORTED_HINT}.')
    key = _choose_family(weights, layout, name, family, name_hints or (name,), sha256)
    tokens, context_dim = FAMILIES[key].check(weights.image_proj, name)
    site_widths = check_sites(weights.ip_adapter, context_dim, name)
    has_lora = check_lora(weights.ip_adapter, site_widths, context_dim, name)
    if not any(tensor.is_meta for tensor in weights.image_proj.values()):
        check_finite(weights, name)
    return AdapterSpec(key, tokens, context_dim, site_widths, has_lora)


def recognise(weights: Weights) -> str | None:  # noqa: PLR0911  one line per layout, in the order that decides
    """The layout, a key of CANDIDATES or REFUSED; None if unknown. Completeness is not checked."""
    proj, other = weights.image_proj, weights.other
    first = {key.split(".")[0] for key in other}
    if {"id_encoder", "lora_weights"} & first:
        return "photomaker"
    if "pulid_ca" in first:
        return "pulid_flux"
    if {"id_adapter_attn_layers", "id_adapter"} & first or {"body.0.weight", "id_embedding_mapping.0.weight"} & set(
        proj
    ):
        return "pulid"
    if "perceiver_resampler.proj_in.weight" in proj:
        return "faceid_plus"
    if "latents" in proj:
        return "instantid" if size(proj.get("proj_in.weight"), 1) == EMBEDDING_SIZE else "clip_plus"
    if size(proj.get("proj.0.weight"), 1) == EMBEDDING_SIZE and size(proj.get("norm.weight"), 0):
        tokens, rest = divmod(size(proj.get("proj.2.weight"), 0), size(proj.get("norm.weight"), 0))
        return None if rest else {4: "faceid", 16: "portrait"}.get(tokens)
    if "proj.weight" in proj:
        return "ip_adapter"
    if any(key.startswith("lora_unet_") for key in other):
        return "faceid_lora"
    return None


def _choose_family(
    weights: Weights, layout: str, name: str, family: str, name_hints: Sequence[str], sha256: Callable[[], str] | None
) -> str:
    """The family: by the user's choice, the shapes, the file's hash, or its names; else an error asks the user."""
    candidates = CANDIDATES[layout]
    if family != AUTO:
        if family not in candidates:
            is_a = " or ".join(FAMILIES[each].name for each in candidates)
            raise BeyondFacialError(
                f'"adapter_family" is "{family[:60]}", but "{name}" has the shapes of {is_a}; set it to "auto".'
            )
        return family
    if len(candidates) == 1:
        return candidates[0]
    if layout == "faceid_plus" and size(weights.image_proj.get("norm.weight"), 0) == 2048:
        return "faceid_plus_v2"  # version 1 was never made for SDXL
    known = sha256() if sha256 is not None else ""
    by_hash = [each for each in candidates if known in FAMILIES[each].sha256]
    by_name = [named for hint in name_hints if len(named := _named_like(hint, candidates)) == 1]
    if by_hash or by_name:
        return (by_hash or by_name[0])[0]
    may_be = " or ".join(FAMILIES[each].name for each in candidates)
    choices = " or ".join(f'"{each}"' for each in candidates)
    guess = (
        f" (its fp32 numbers speak for {FAMILIES['instantid'].name})" if _is_fp32_instantid(weights, layout) else ""
    )
    raise BeyondFacialError(
        f'"{name}" may be {may_be}, which cannot be told from the file{guess}; set "adapter_family" to {choices}.'
    )


def _named_like(hint: str, candidates: Sequence[str]) -> list[str]:
    return [each for each in candidates if (like := FAMILIES[each].named_like) is not None and like.search(hint)]


def _is_fp32_instantid(weights: Weights, layout: str) -> bool:
    tensors = (*weights.image_proj.values(), *weights.ip_adapter.values())
    return layout == "instantid" and all(tensor.dtype is torch.float32 for tensor in tensors)
