"""Weight files to identity tokens: read (files) and recognise (checkpoints, layouts), list by name (registry), project
(families, networks, projections, clip_vision), attend (attention)."""

from .attention import AdapterInjection, DecoupledAttention, check_fits
from .checkpoints import AdapterSpec, describe
from .clip_vision import choose_clip_model, clip_dirs, encode_face, list_clip_models
from .families import FAMILIES, FaceInput, Family
from .files import Weights, load_adapter_file
from .projections import project_identity
from .registry import AdapterCard, LoadedAdapter, adapter_dirs, get_adapter, list_adapters, peek_adapter

__all__ = [
    "FAMILIES",
    "AdapterCard",
    "AdapterInjection",
    "AdapterSpec",
    "DecoupledAttention",
    "FaceInput",
    "Family",
    "LoadedAdapter",
    "Weights",
    "adapter_dirs",
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
