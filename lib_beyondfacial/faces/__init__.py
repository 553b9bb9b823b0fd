"""Photos to one identity: decode (photos), find faces (analysis), cut heads (crops), agree (aggregate), measure
(reports)."""

from .aggregate import Identity, aggregate_photos
from .analysis import Face, FaceAnalyser, find_packs, get_analyser
from .crops import head_crop
from .photos import Photo, decode_photo, decode_upload
from .reports import FaceReport, measure

__all__ = [
    "Face",
    "FaceAnalyser",
    "FaceReport",
    "Identity",
    "Photo",
    "aggregate_photos",
    "decode_photo",
    "decode_upload",
    "find_packs",
    "get_analyser",
    "head_crop",
    "measure",
]
