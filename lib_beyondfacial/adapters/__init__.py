"""Weight files to identity tokens: read a file (files), recognise it (checkpoints, layouts), list files by name
(registry), compute what they ask about a person (features, clip_vision), project it (families, networks, projections),
attend (branch), and the order of attention sites (sites)."""

from .branch import IdentityBranch, check_fits
from .checkpoints import AdapterSpec, describe
from .families import FAMILIES, Family
from .features import FEATURES, Features, compute_features
from .files import Weights, load_adapter_file
from .projections import project_identity
from .registry import AdapterCard, LoadedAdapter, adapter_dirs, get_adapter, list_adapters, peek_adapter
from .sites import Site, adapter_order, attn1_twin

__all__ = [
    "FAMILIES",
    "FEATURES",
    "AdapterCard",
    "AdapterSpec",
    "Family",
    "Features",
    "IdentityBranch",
    "LoadedAdapter",
    "Site",
    "Weights",
    "adapter_dirs",
    "adapter_order",
    "attn1_twin",
    "check_fits",
    "compute_features",
    "describe",
    "get_adapter",
    "list_adapters",
    "load_adapter_file",
    "peek_adapter",
    "project_identity",
]
