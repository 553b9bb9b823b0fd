"""Faces in a picture, through the insightface package as published: never a download, always on the CPU."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BeyondFacialError
from .vendor import use_vendor

DETECTOR_SIZES = (640, 512, 384, 256)  # stepped down before "no face" is said: big faces are missed at 640
THRESHOLD = 0.5
MAX_ASPECT = 64  # a thinner picture would shrink to nothing in the detector
MODULES = ["detection", "recognition", "genderage"]
PROVIDERS = ["CPUExecutionProvider"]
EMBEDDING_SIZE = 512


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a picture.

    box: (4,) x0, y0, x1, y1 in pixels of the picture, not cut to it.
    landmarks: (5, 2) x, y: eyes, nose, corners of the mouth, left to right in the picture.
    score: the detector's, in [0, 1].
    embedding: raw (not normalised) float32 (512,).
    gender: "male" or "female" where the pack has that model, else None.
    detector_size: the size at which the detector found it.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    embedding: np.ndarray
    gender: str | None = None
    detector_size: int = 0

    @property
    def normed_embedding(self) -> np.ndarray:
        """Unit-length embedding (512,)."""
        return self.embedding / max(float(np.linalg.norm(self.embedding)), 1e-12)

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        x0, y0, x1, y1 = (float(v) for v in self.box)
        return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)


class FaceAnalyser:
    """An insightface pack, loaded; one at a time may search, so threads wait for each other."""

    def __init__(self, pack_dir: Path):
        """Load a pack folder; BeyondFacialError where it is missing, empty, damaged or incomplete."""
        self.pack_dir = Path(pack_dir).resolve()
        self._lock = threading.Lock()
        self._app = _load_pack(self.pack_dir)
        self._sizes = _detector_sizes(self._app)
        self._prepared: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The pack's folder name."""
        return self.pack_dir.name

    def find(self, image: np.ndarray) -> list[Face]:
        """All faces of a picture, the largest first.

        The detector's size steps down 640, 512, 384, 256 (or is the one that the model is fixed to), then the same
        with a wide border around the picture, and the first attempt that finds a face counts.

        Args:
            image: RGB uint8 (H, W, 3).
        """
        height, width = image.shape[:2]
        if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
            return []
        with self._lock:
            for picture, border, size in self._attempts(image):
                faces = self._find_once(picture, border, size)
                if faces:
                    return sorted(faces, key=lambda face: -face.area)
        return []

    def _find_once(self, picture: np.ndarray, border: int, size: tuple[int, int]) -> list[Face]:
        try:
            if size != self._prepared:
                self._app.prepare(ctx_id=0, det_thresh=THRESHOLD, det_size=size)
                self._prepared = size
            faces = [_to_face(found, border, max(size)) for found in self._app.get(picture)]
        except Exception as error:  # onnxruntime's and OpenCV's own, from models that load but do not run
            self._prepared = None
            raise BeyondFacialError(
                f'The face pack "{self.name}" fails when it is run; download it again or choose another.'
            ) from error
        return [face for face in faces if face.area > 0 and np.isfinite(face.embedding).all()]

    def _attempts(self, image: np.ndarray) -> Iterator[tuple[np.ndarray, int, tuple[int, int]]]:
        """(BGR picture, width of the border around it, detector size (width, height)), in the order to be tried."""
        bgr = np.ascontiguousarray(image[..., ::-1])
        for size in self._sizes:
            yield bgr, 0, size
        border = (max(image.shape[:2]) + 1) // 2
        padded = np.pad(bgr, ((border, border), (border, border), (0, 0)), constant_values=127)
        for size in self._sizes:
            yield padded, border, size


def get_analyser(pack_dir: Path) -> FaceAnalyser:
    """The analyser of a pack folder, kept from call to call until the folder's files change."""
    pack_dir = Path(pack_dir).resolve()
    return _cached_analyser(pack_dir, _fingerprint(pack_dir))


def unload_analysers() -> None:
    """Free the loaded packs (some 500 MB each)."""
    _cached_analyser.cache_clear()


def find_packs(dirs: Iterable[Path]) -> dict[str, Path]:
    """insightface packs by folder name: folders that hold .onnx files, themselves or nested one deeper.

    (antelopev2's archive unpacks to antelopev2/antelopev2.) Where two folders hold the same name, the first wins.
    """
    packs: dict[str, Path] = {}
    for folder in dirs:
        for entry in _subfolders(Path(folder)):
            inside = [entry, entry / entry.name, *_subfolders(entry)]
            models = next((place for place in inside if _onnx_files(place)), None)
            if models is not None:
                packs.setdefault(entry.name, models)
    return packs


@functools.lru_cache(maxsize=2)
def _cached_analyser(pack_dir: Path, _files: tuple[tuple[str, int, int], ...]) -> FaceAnalyser:
    return FaceAnalyser(pack_dir)


def _fingerprint(pack_dir: Path) -> tuple[tuple[str, int, int], ...]:
    files = ((path.name, path.stat()) for path in _onnx_files(pack_dir))
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def _onnx_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".onnx" and path.is_file())
    except OSError:
        return []


def _detector_sizes(app: Any) -> tuple[tuple[int, int], ...]:
    """(width, height) to try, in order: the one that the model is fixed to, or the steps."""
    height, width = app.det_model.session.get_inputs()[0].shape[2:4]
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return ((width, height),)
    return tuple((size, size) for size in DETECTOR_SIZES)


def _to_face(found: Any, border: int, detector_size: int) -> Face:
    """insightface's Face, with the border taken off again."""
    gender = None if found.gender is None else ("female", "male")[int(found.gender == 1)]
    return Face(
        box=np.asarray(found.bbox, dtype=np.float32) - border,
        landmarks=np.asarray(found.kps, dtype=np.float32) - border,
        score=float(found.det_score),
        embedding=np.asarray(found.embedding, dtype=np.float32),
        gender=gender,
        detector_size=detector_size,
    )


def _load_pack(pack_dir: Path) -> Any:
    """insightface's FaceAnalysis of a folder that was looked at first: it downloads only where a folder is missing."""
    name = pack_dir.name
    files = _onnx_files(pack_dir)
    if not pack_dir.is_dir():
        raise BeyondFacialError(f'The face pack folder "{name}" is missing; put it into models/insightface/models.')
    if not files:
        raise BeyondFacialError(f'The face pack folder "{name}" holds no .onnx files; unpack the pack into it.')
    face_analysis = import_face_analysis()
    try:
        # one session for all detector sizes: newer releases would keep a copy of the model for each
        app = face_analysis(
            name=str(pack_dir), allowed_modules=MODULES, providers=PROVIDERS, static_shape_sessions=False
        )
    except Exception as error:
        raise _pack_error(name, files) from error
    return _checked_app(app, name, files)


def _checked_app(app: Any, name: str, files: list[Path]) -> Any:
    """The pack has a detector with landmarks and a recogniser of 512 numbers, or BeyondFacialError."""
    listed = ", ".join(path.name for path in files)
    recogniser = app.models.get("recognition")
    if recogniser is None:
        raise BeyondFacialError(
            f'The face pack "{name}" has no recognition model (found: {listed}); use a whole pack.'
        )
    if not getattr(app.det_model, "use_kps", True):
        raise BeyondFacialError(f'The detector of face pack "{name}" finds no landmarks ({listed}); use another pack.')
    width = recogniser.output_shape[-1]
    if isinstance(width, int) and width != EMBEDDING_SIZE:
        raise BeyondFacialError(f'The face pack "{name}" gives {width} numbers per face; 512 are needed ({listed}).')
    return app


def _pack_error(name: str, files: list[Path]) -> BeyondFacialError:
    """Which file is at fault: insightface stops at the first bad one and does not say which."""
    import onnxruntime

    for path in files:
        try:
            onnxruntime.InferenceSession(str(path), providers=PROVIDERS)
        except Exception:
            return BeyondFacialError(
                f'"{path.name}" in the face pack folder "{name}" is damaged or no ONNX model; download the pack again.'
            )
    listed = ", ".join(path.name for path in files)
    return BeyondFacialError(f'The face pack folder "{name}" is no whole insightface pack (found: {listed}).')


def import_face_analysis() -> Any:
    """insightface's FaceAnalysis class: the host's, else the private folder's; BeyondFacialError in words."""
    use_vendor()
    try:
        from insightface.app import FaceAnalysis
    except Exception as error:  # a broken package beside it raises nearly anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BeyondFacialError(
            f"insightface cannot be used here ({reason[:200]}); restart the host once with internet access, so that "
            "install.py can fetch it, or repair the package that is named."
        ) from error
    return FaceAnalysis
