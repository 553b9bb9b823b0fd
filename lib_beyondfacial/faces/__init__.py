"""From photos to one identity: decode photos (photos), find faces (analysis), decide which are used (checks), average
them (aggregate), save identities (library), and compare pictures with them (reports)."""

from .aggregate import Identity, aggregate_photos
from .analysis import Face, FaceAnalyser, find_packs, get_analyser, unload_analysers
from .checks import DetectedFace, PhotoCheck, check_photos, draw_check, summarise
from .choice import FaceChoice
from .crops import head_crop
from .library import Entry, Library, UnknownIdentityError
from .photos import Photo, decode_photo, decode_upload
from .reports import FaceReport, compare

__all__ = [
    "DetectedFace",
    "Entry",
    "Face",
    "FaceAnalyser",
    "FaceChoice",
    "FaceReport",
    "Identity",
    "Library",
    "Photo",
    "PhotoCheck",
    "UnknownIdentityError",
    "aggregate_photos",
    "check_photos",
    "compare",
    "decode_photo",
    "decode_upload",
    "draw_check",
    "find_packs",
    "get_analyser",
    "head_crop",
    "summarise",
    "unload_analysers",
]
