"""Faces in a picture: which sizes are tried before "no face" is said, and packs kept loaded. On the CPU by default."""

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

DETECTOR_SIZES = (640, 512, 384, 256)  # stepped down before "no face" is said: big faces are missed at 640
THRESHOLD = 0.5
PADDED_SIDE = 2048  # a photo is shrunk to that before a border quadruples it: faces found then fill it anyway
MAX_ASPECT = 64  # a thinner picture would shrink to nothing in the detector
FILLING = 0.8  # of the searched area: what fills more is the area itself, taken for a face where nothing else is seen
SQUARES_ASPECT = (1.25, 8.0)  # between these a picture is searched in squares, too: whole, its heads are small


class FaceAnalyser:
    """An insightface pack, loaded; one at a time may search, so threads wait for each other.

    name: the pack's.
    space: whose embeddings these are: the pack's name and the hash of its recogniser, as in "buffalo_l:1a2b3c4d5e".
    """

    def __init__(self, pack_dir: Path, provider: str = CPU, name: str = ""):
        """Load a pack folder; BeyondFacialError where it is missing, empty, damaged or incomplete.

        Args:
            name: the pack's, where it is another than the folder's.
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
        """What runs the pack: "insightface", or "onnxruntime" where that cannot be imported."""
        return self._engine.name

    @property
    def provider(self) -> str:
        """onnxruntime's name of what the models run on."""
        return self._engine.providers[0]

    @property
    def tells_gender(self) -> bool:
        """Whether the pack has a gender model."""
        return self._engine.tells_gender

    def _hash_recogniser(self) -> str:
        """At once: the file may be another's a minute later."""
        assert self._engine.recogniser is not None  # load_engine refuses a pack without
        try:
            return hash_file(self._engine.recogniser)[:SHORT_HASH]
        except OSError as error:
            raise BeyondFacialError(f'A file of the face pack "{self.name}" is gone; put it back.') from error

    def find(self, image: np.ndarray) -> list[Face]:
        """All faces of a photo, the largest first.

        The detector's size steps down 640, 512, 384, 256 (or is the one that the model is fixed to); then a wide or
        high picture is searched square by square; then the steps again with a wide border around the picture. The
        first attempt that finds a face counts. Boxes that fill nearly all of what is searched are none.

        Args:
            image: RGB uint8 (H, W, 3).
        """
        return self._find_first(image, self._attempts)

    def find_in_scene(self, image: np.ndarray) -> list[Face]:
        """All faces of a generated picture, the largest first; as `find`, without the attempts with a border.

        A border is for photos that are all face. Around a scene in which no face is seen, it makes detectors take the
        scene as such for one.
        """
        return self._find_first(image, self._attempts_without_border)

    def _find_first(self, image: np.ndarray, attempts: Callable[[np.ndarray], Iterator[list[_Attempt]]]) -> list[Face]:
        height, width = image.shape[:2]
        if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
            return []
        with self._lock:
            for parts in attempts(np.ascontiguousarray(image[..., ::-1])):
                faces = [face for part in parts for face in self._find_once(part)]
                if faces:
                    faces.sort(key=lambda face: -face.area)
                    return faces if len(parts) == 1 else _distinct(faces)
        return []

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
        except Exception as error:  # onnxruntime's and OpenCV's own, from models that load but do not run
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
        return [face for face in real if face.area < FILLING * area]

    def _failure(self) -> BeyondFacialError:
        return BeyondFacialError(
            f'The face pack "{self.name}" fails when it is run; download it again or choose another.'
        )

    def _attempts_without_border(self, bgr: np.ndarray) -> Iterator[list[_Attempt]]:
        """In the order to be tried; each the parts of the picture that are searched together."""
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
    """A BGR picture to be searched: the photo, shrunk to `scale` in both directions, with a border around it.

    size: the detector's (width, height). offset: x, y of the searched part in the photo.
    """

    picture: np.ndarray
    border: int
    scale: np.ndarray
    size: tuple[int, int]
    offset: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))


def _squares(picture: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Squares of the shorter side along the longer one, each half over the last, and each one's x, y."""
    side, long = sorted(picture.shape[:2])
    least, most = SQUARES_ASPECT
    if not least * side <= long <= most * side:
        return
    for start in np.linspace(0, long - side, math.ceil(2 * (long - side) / side) + 1).round().astype(int):
        x, y = (start, 0) if picture.shape[1] == long else (0, start)
        yield np.ascontiguousarray(picture[y : y + side, x : x + side]), np.array([x, y], np.float32)


def _distinct(faces: list[Face]) -> list[Face]:
    """Without those whose middle is in an earlier one's box: the same face, seen in two squares."""
    kept: list[Face] = []
    for face in faces:
        x, y = (face.box[:2] + face.box[2:]) / 2
        if not any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in (other.box for other in kept)):
            kept.append(face)
    return kept


def _shrink(picture: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `side` pixels a side; and by how much, for x and y."""
    import cv2

    height, width = picture.shape[:2]
    if max(height, width) <= side:
        return picture, np.ones(2, np.float32)
    ratio = side / max(height, width)
    target = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    scale = np.array([target[0] / width, target[1] / height], np.float32)
    return cv2.resize(picture, target, interpolation=cv2.INTER_AREA), scale


def get_analyser(pack_dir: Path, provider: str = CPU, name: str = "") -> FaceAnalyser:
    """The analyser of a pack folder, kept from call to call until the folder's files change.

    Args:
        pack_dir: a folder of .onnx files, as find_packs names them.
        provider: onnxruntime's name, or its short form: "cpu", "cuda".
        name: the pack's, where it is another than the folder's, as for one that is nested.
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
