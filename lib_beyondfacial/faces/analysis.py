"""Finds faces in a picture, with several detector sizes; keeps packs loaded. On the CPU by default."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..common import SHORT_HASH, hash_file
from ..errors import BeyondFacialError
from .alignment import aligned_to_crops
from .face import Face
from .packs import CPU, find_packs, fingerprint, full_provider, load_engine

__all__ = ["Face", "FaceAnalyser", "find_packs", "get_analyser", "unload_analysers"]

DETECTOR_SIZES = (640, 512, 384, 256)  # tried in this order: large faces are missed at 640
THRESHOLD = 0.5
PADDED_SIDE = 2048  # px, before a border quadruples the area: faces that are found only then are large anyway
MAX_ASPECT = 64  # a narrower picture would have no pixels left in the detector
FILLING = 0.8  # share of the searched area: larger boxes are ignored, as detectors may take the area for a face
SQUARES_ASPECT = (1.25, 8.0)  # between these aspects a picture is also searched in squares: its heads are small


class FaceAnalyser:
    """A loaded insightface pack; a lock lets one thread search at a time.

    name: the pack's.
    space: identifies its embeddings: the pack's name and the hash of its recogniser, as in "buffalo_l:1a2b3c4d5e".
    """

    def __init__(self, pack_dir: Path, provider: str = CPU, name: str = ""):
        """Load a pack folder; BeyondFacialError if it is missing, empty, damaged or incomplete.

        Args:
            name: the pack's, if it differs from the folder's.
        """
        self.pack_dir = Path(pack_dir).resolve()
        self.name = name or self.pack_dir.name
        self._lock = threading.Lock()
        self._engine = load_engine(self.pack_dir, provider, self.name)
        self.space = f"{self.name}:{self._hash_recogniser()}"
        fixed = self._engine.fixed_size
        self._sizes = (fixed,) if fixed else tuple((size, size) for size in DETECTOR_SIZES)

    @property
    def engine(self) -> str:
        """The engine in use: "insightface", or "onnxruntime" if insightface cannot be imported."""
        return self._engine.name

    @property
    def provider(self) -> str:
        """onnxruntime's name of the provider that the models run on."""
        return self._engine.providers[0]

    @property
    def tells_gender(self) -> bool:
        """Whether the pack has a gender model."""
        return self._engine.tells_gender

    def _hash_recogniser(self) -> str:
        """Hash the recogniser's file while loading, because the file may be replaced later."""
        assert self._engine.recogniser is not None  # load_engine refuses a pack without
        try:
            return hash_file(self._engine.recogniser)[:SHORT_HASH]
        except OSError as error:
            raise BeyondFacialError(f'A file of the face pack "{self.name}" is gone; put it back.') from error

    def find(self, image: np.ndarray) -> list[Face]:
        """All faces of a photo, the largest first.

        Attempts, in order: the detector sizes 640, 512, 384, 256 (or the model's fixed size); for wide or high
        pictures, square by square; the sizes again with a wide border around the picture. The first attempt that finds
        a face counts. Boxes that fill nearly all of the searched area are ignored.

        Args:
            image: RGB uint8 (H, W, 3).
        """
        return self._find_first(image, self._attempts)

    def find_in_scene(self, image: np.ndarray, wanted: int = 1) -> list[Face]:
        """All faces of a generated picture, the largest first; like `find`, without the attempts with a border.

        The border is for photos filled by a face. With a border around a scene without faces, detectors take the whole
        scene for a face.

        Args:
            wanted: with fewer faces the further attempts are made, too, and the one with the most faces counts.
        """
        return self._find_first(image, self._attempts_without_border, wanted)

    def _find_first(
        self, image: np.ndarray, attempts: Callable[[np.ndarray], Iterator[list[_Attempt]]], wanted: int = 1
    ) -> list[Face]:
        height, width = image.shape[:2]
        if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
            return []
        best: list[Face] = []
        with self._lock:
            for parts in attempts(np.ascontiguousarray(image[..., ::-1])):
                faces = [face for part in parts for face in self._find_once(part)]
                faces.sort(key=lambda face: -face.area)
                faces = faces if len(parts) == 1 else _distinct(faces)
                best = max(best, faces, key=len)
                if len(best) >= wanted:
                    break
        return best

    def embed(self, aligned: np.ndarray) -> np.ndarray:
        """Raw embeddings, float32 (N, 512), of aligned RGB crops, uint8 (N, 224, 224, 3)."""
        with self._lock:
            try:
                return self._engine.embed(aligned_to_crops(aligned)[..., ::-1])
            except Exception as error:
                raise self._failure() from error

    def _find_once(self, attempt: _Attempt) -> list[Face]:
        border, scale, size = attempt.border, attempt.scale, attempt.size
        try:
            found = self._engine.find(attempt.picture, size, THRESHOLD)
        except Exception as error:  # exceptions of onnxruntime and OpenCV, for models that load but do not run
            raise self._failure() from error
        faces = [
            replace(
                face,
                box=(face.box - border) / np.tile(scale, 2) + np.tile(attempt.offset, 2),
                landmarks=(face.landmarks - border) / scale + attempt.offset,
                detector_size=max(size),
                padded=border > 0,
            )
            for face in found
        ]
        area = attempt.picture.shape[0] * attempt.picture.shape[1] / float(np.prod(scale))
        real = (face for face in faces if face.area > 0 and np.isfinite(face.embedding).all())
        side = FILLING**0.5 * min(attempt.picture.shape[:2]) / float(attempt.scale.max())
        return [face for face in real if face.area < FILLING * area and min(face.box[2:] - face.box[:2]) < side]

    def _failure(self) -> BeyondFacialError:
        return BeyondFacialError(
            f'The face pack "{self.name}" fails when it is run; download it again or choose another.'
        )

    def _attempts_without_border(self, bgr: np.ndarray) -> Iterator[list[_Attempt]]:
        """The attempts in order; each is a list of parts of the picture that are searched together."""
        unscaled = np.ones(2, np.float32)
        for size in self._sizes:
            yield [_Attempt(bgr, 0, unscaled, size)]
        if squares := list(_squares(bgr)):
            yield [_Attempt(part, 0, unscaled, self._sizes[0], offset) for part, offset in squares]

    def _attempts(self, bgr: np.ndarray) -> Iterator[list[_Attempt]]:
        yield from self._attempts_without_border(bgr)
        small, scale = _shrink(bgr, PADDED_SIDE)
        border = (max(small.shape[:2]) + 1) // 2
        padded = np.pad(small, ((border, border), (border, border), (0, 0)), constant_values=127)
        for size in self._sizes:
            yield [_Attempt(padded, border, scale, size)]


@dataclass(frozen=True, eq=False)
class _Attempt:
    """A BGR picture to search in: the photo, resized by `scale` (x, y), with a border around it.

    size: the detector's (width, height). offset: x, y of the searched part in the photo.
    """

    picture: np.ndarray
    border: int
    scale: np.ndarray
    size: tuple[int, int]
    offset: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))


def _squares(picture: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Squares along the longer side, each overlapping the previous one by half, with their x, y."""
    side, long = sorted(picture.shape[:2])
    least, most = SQUARES_ASPECT
    if not least * side <= long <= most * side:
        return
    for start in np.linspace(0, long - side, math.ceil(2 * (long - side) / side) + 1).round().astype(int):
        x, y = (start, 0) if picture.shape[1] == long else (0, start)
        yield np.ascontiguousarray(picture[y : y + side, x : x + side]), np.array([x, y], np.float32)


def _distinct(faces: list[Face]) -> list[Face]:
    """Drop faces whose centre is in the box of an earlier one: the same face, found in two squares."""
    kept: list[Face] = []
    for face in faces:
        x, y = (face.box[:2] + face.box[2:]) / 2
        if not any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in (other.box for other in kept)):
            kept.append(face)
    return kept


def _shrink(picture: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Shrink a picture whose longer side exceeds `side` px. Returns it and the factors (x, y), new size / old size."""
    import cv2

    height, width = picture.shape[:2]
    if max(height, width) <= side:
        return picture, np.ones(2, np.float32)
    ratio = side / max(height, width)
    target = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    scale = np.array([target[0] / width, target[1] / height], np.float32)
    return cv2.resize(picture, target, interpolation=cv2.INTER_AREA), scale


def get_analyser(pack_dir: Path, provider: str = CPU, name: str = "") -> FaceAnalyser:
    """The analyser of a pack folder, cached until the folder's files change.

    Args:
        pack_dir: a folder of .onnx files, as find_packs names them.
        provider: onnxruntime's name, or its short form: "cpu", "cuda".
        name: the pack's, if it differs from the folder's, as for a nested folder.
    """
    pack_dir = Path(pack_dir).resolve()
    with _LOADING:
        return _cached_analyser(pack_dir, fingerprint(pack_dir), full_provider(provider), name or pack_dir.name)


def unload_analysers() -> None:
    """Free the loaded packs (some 500 MB each)."""
    _cached_analyser.cache_clear()


_LOADING = threading.Lock()  # two requests at once would load the same pack twice


@functools.lru_cache(maxsize=2)
def _cached_analyser(
    pack_dir: Path, _files: tuple[tuple[str, int, int], ...], provider: str, name: str
) -> FaceAnalyser:
    return FaceAnalyser(pack_dir, provider, name)
