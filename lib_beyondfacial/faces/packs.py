"""Finds, checks and loads face pack folders, with the first engine that works; each failure has its own sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from ..common import EMBEDDING_SIZE
from ..errors import BeyondFacialError
from .alignment import CROP
from .engine_insightface import InsightfaceEngine
from .engine_onnx import OnnxEngine
from .face import Face
from .onnx_names import has_external_data
from .packages import explain_import

CPU = "CPUExecutionProvider"
FOLDERS = ("insightface/models", "ControlNetPreprocessor/insightface/models")  # below the models folder
EXTENSION = "extensions/sd-webui-controlnet/annotator/downloads/insightface/models"  # beside it
NO_PACKS = ("__MACOSX",)  # a folder that archives from Macs have besides the pack


class Engine(Protocol):
    """The interface of the two engines that run a pack's models."""

    name: str

    @property
    def fixed_size(self) -> tuple[int, int] | None: ...
    @property
    def finds_landmarks(self) -> bool: ...
    @property
    def tells_gender(self) -> bool: ...
    @property
    def recogniser(self) -> Path | None: ...
    @property
    def embedding_width(self) -> int | None: ...
    @property
    def providers(self) -> list[str]: ...

    def find(self, picture: np.ndarray, size: tuple[int, int], threshold: float) -> list[Face]: ...
    def embed(self, crops: np.ndarray) -> np.ndarray: ...


def pack_dirs(models_dir: Path) -> list[Path]:
    """The existing folders for face packs, in a models folder and beside it."""
    places = [*(Path(models_dir) / name for name in FOLDERS), Path(models_dir).parent / EXTENSION]
    return [folder for folder in places if folder.is_dir()]


def find_packs(dirs: Iterable[Path]) -> dict[str, Path]:
    """insightface packs by folder name: folders with .onnx files, directly or one folder deeper.

    (antelopev2's archive unpacks to antelopev2/antelopev2, others to antelopev2/antelopev2-main.) If two folders have
    the same name, the first wins.
    """
    packs: dict[str, Path] = {}
    for folder in dirs:
        for entry in _subfolders(Path(folder)):
            inside = [entry, entry / entry.name, *_subfolders(entry)]
            models = next((place for place in inside if onnx_files(place)), None)
            if models is not None:
                packs.setdefault(entry.name, models)
    return packs


def onnx_files(folder: Path) -> list[Path]:
    """The .onnx files directly in the folder, sorted; none if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if is_onnx(path) and path.is_file())
    except OSError:
        return []


def is_onnx(path: Path) -> bool:
    """Whether the name is that of an ONNX file; Macs write metadata to names such as "._det.onnx"."""
    return path.suffix.lower() == ".onnx" and not path.name.startswith(".")


def fingerprint(pack_dir: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a pack's files: a key that changes with the pack."""
    found = []
    for path in onnx_files(pack_dir):
        with contextlib.suppress(OSError):  # it was deleted meanwhile
            stat = path.stat()
            found.append((path.name, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def full_provider(name: str) -> str:
    """onnxruntime's name for "cpu", "cuda" or "CUDAExecutionProvider"; BeyondFacialError for one that it lacks."""
    known = _import_onnxruntime().get_available_providers()
    asked = name.lower().removesuffix("executionprovider")
    for provider in known:
        if provider.lower().removesuffix("executionprovider") == asked:
            return str(provider)
    listed = ", ".join(provider.removesuffix("ExecutionProvider").lower() for provider in known)
    raise BeyondFacialError(
        f'The face provider "{name[:60]}" is not part of this onnxruntime; choose one of {listed}.'
    )


def load_engine(pack_dir: Path, provider: str = CPU, name: str = "") -> Engine:
    """Load with insightface if possible, else with onnxruntime alone; BeyondFacialError names the pack and files."""
    name, files = name or pack_dir.name, onnx_files(pack_dir)
    if not pack_dir.is_dir():
        raise BeyondFacialError(f'The face pack folder "{name}" is missing; put it into models/insightface/models.')
    if not files:
        nested = [f'"{place.name}"' for place in _subfolders(pack_dir) if onnx_files(place)]
        if nested:
            raise BeyondFacialError(
                f'The face pack folder "{name}" holds its .onnx files one folder deeper, in {", ".join(nested)}; '
                "move them up."
            )
        raise BeyondFacialError(f'The face pack folder "{name}" holds no .onnx files; unpack the pack into it.')
    provider = full_provider(provider)
    providers = [provider] if provider == CPU else [provider, CPU]
    engine = _first_engine(pack_dir, name, files, providers)
    _check_engine(engine, name, files, provider)
    return engine


def _first_engine(pack_dir: Path, name: str, files: list[Path], providers: list[str]) -> Engine:
    whole = [path for path in files if not has_external_data(path)]
    if len(whole) == len(files) == len(list(pack_dir.glob("[!.]*.onnx"))):  # insightface would open pipes and block
        try:
            return InsightfaceEngine(pack_dir, providers)
        except Exception:  # missing, broken, another release, or a bad file: try the second engine
            _import_onnxruntime()
    try:
        engine = OnnxEngine(whole, providers)
    except Exception as error:
        raise _pack_error(name, files) from error
    if engine.recogniser is None and len(whole) < len(files):
        raise _pack_error(name, files)
    return engine


def _check_engine(engine: Engine, name: str, files: list[Path], provider: str) -> None:
    """Check that the pack has a detector with landmarks and a recogniser of 512 numbers, else BeyondFacialError."""
    listed = ", ".join(path.name for path in files)
    if engine.recogniser is None:
        raise BeyondFacialError(
            f'The face pack "{name}" has no recognition model (found: {listed}); use a whole pack.'
        )
    if not engine.finds_landmarks:
        raise BeyondFacialError(
            f'The detector of the face pack "{name}" gives no landmarks (found: {listed}); use another pack.'
        )
    width = engine.embedding_width or engine.embed(np.zeros((1, CROP, CROP, 3), np.uint8)).shape[-1]
    if width != EMBEDDING_SIZE:
        raise BeyondFacialError(
            f'The face pack "{name}" gives {width} numbers per face; {EMBEDDING_SIZE} are needed ({listed}).'
        )
    if provider not in engine.providers:
        short = provider.removesuffix("ExecutionProvider").lower()
        raise BeyondFacialError(f'The face provider "{short}" does not start on this machine; choose "cpu".')


def _pack_error(name: str, files: list[Path]) -> BeyondFacialError:
    """Find the bad file for the message: the engines fail at it without naming it."""
    onnxruntime = _import_onnxruntime()
    for path in files:
        if has_external_data(path):
            return BeyondFacialError(
                f'"{path.name}" in the face pack "{name}" keeps its numbers in another file, which is not read; '
                "use the pack as published."
            )
        try:
            onnxruntime.InferenceSession(str(path), providers=[CPU])
        except Exception:
            return BeyondFacialError(
                f'"{path.name}" of the face pack "{name}" is damaged or is not an ONNX model; download the pack again.'
            )
    listed = ", ".join(path.name for path in files)
    return BeyondFacialError(f'The face pack folder "{name}" is no whole insightface pack (found: {listed}).')


def _import_onnxruntime() -> ModuleType:
    with explain_import("onnxruntime"):
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        return onnxruntime


def _subfolders(folder: Path) -> list[Path]:
    try:
        found = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
    return [entry for entry in found if entry.name not in NO_PACKS]
