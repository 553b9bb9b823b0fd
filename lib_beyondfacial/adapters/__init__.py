"""From weight files to identity tokens and attention: read a file (files), recognise it (checkpoints, layouts), list
files by name (registry), compute a person's features (features, clip_vision), project them to tokens (families,
networks, projections), and attend to these (attention)."""

from .attention import AdapterInjection, DecoupledAttention, check_fits
from .checkpoints import AdapterSpec, describe
from .families import FAMILIES, Family
from .features import FEATURES, Features, compute_features
from .files import Weights, load_adapter_file
from .projections import project_identity
from .registry import AdapterCard, LoadedAdapter, adapter_dirs, get_adapter, list_adapters, peek_adapter

__all__ = [
    "FAMILIES",
    "FEATURES",
    "AdapterCard",
    "AdapterInjection",
    "AdapterSpec",
    "DecoupledAttention",
    "Family",
    "Features",
    "LoadedAdapter",
    "Weights",
    "adapter_dirs",
    "check_fits",
    "compute_features",
    "describe",
    "get_adapter",
    "list_adapters",
    "load_adapter_file",
    "peek_adapter",
    "project_identity",
]
