"""Weight files to identity tokens: read (files) and recognise (checkpoints, layouts), list by name (registry), project
(families, networks, projections, clip_vision), attend (branch), and the order of attention sites (sites)."""

from .branch import IdentityBranch, check_fits
from .checkpoints import AdapterSpec, describe
from .clip_vision import choose_clip_model, clip_dirs, encode_face, list_clip_models
from .families import FAMILIES, FaceInput, Family
from .files import Weights, load_adapter_file
from .projections import project_identity
from .registry import AdapterCard, LoadedAdapter, adapter_dirs, get_adapter, list_adapters, peek_adapter
from .sites import Site, adapter_order, attn1_twin

__all__ = [
    "FAMILIES",
    "AdapterCard",
    "AdapterSpec",
    "FaceInput",
    "Family",
    "IdentityBranch",
    "LoadedAdapter",
    "Site",
    "Weights",
    "adapter_dirs",
    "adapter_order",
    "attn1_twin",
    "check_fits",
    "choose_clip_model",
    "clip_dirs",
    "describe",
    "encode_face",
    "get_adapter",
    "list_adapters",
    "list_clip_models",
    "load_adapter_file",
    "peek_adapter",
    "project_identity",
]
