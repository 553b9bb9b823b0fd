"""The families of identity adapters, one file each, and the one table of them."""

from . import faceid, faceid_plus, faceid_plus_v2, instantid, portrait, portrait_unnorm
from .family import Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.key: module.FAMILY
    for module in (faceid, faceid_plus, faceid_plus_v2, portrait, portrait_unnorm, instantid)
}

__all__ = ["FAMILIES", "Family"]
