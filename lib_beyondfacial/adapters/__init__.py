"""Weight files to identity tokens: read and recognise (checkpoints), list by name (registry), project (projections),
attend (branch), and the order of attention sites (sites)."""

from .branch import IdentityBranch, check_fits
from .checkpoints import AdapterSpec, Weights, describe, load_adapter_file
from .projections import FaceInput, project_identity
from .registry import LoadedAdapter, adapter_dirs, get_adapter, list_adapters
from .sites import Site, adapter_order, attn1_twin

__all__ = [
    "AdapterSpec",
    "FaceInput",
    "IdentityBranch",
    "LoadedAdapter",
    "Site",
    "Weights",
    "adapter_dirs",
    "adapter_order",
    "attn1_twin",
    "check_fits",
    "describe",
    "get_adapter",
    "list_adapters",
    "load_adapter_file",
    "project_identity",
]
