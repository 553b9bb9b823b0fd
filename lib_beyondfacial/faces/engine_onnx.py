"""Runs a face pack with onnxruntime and OpenCV, for hosts where insightface cannot be imported.

It uses the same models and steps and gives the same numbers (tests/faces/test_engines.py compares them).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .alignment import CROP, align_face
from .face import GENDERS, Face
from .onnx_names import first_node_names
from .scrfd import STRIDES_OF, Detector, fixed_size
from .vendor import use_vendor

GENDER_SIDE = 96
GENDER_MARGIN = 1.5  # of the box's longer side


class OnnxEngine:
    """The pack's detector, recogniser and (where it is there) gender model, distinguished by their shapes."""

    name = "onnxruntime"

    def __init__(self, files: list[Path], providers: list[str]):
        use_vendor()
        import onnxruntime

        self._sessions: dict[str, Any] = {}
        self._files: dict[str, Path] = {}
        failures: list[Exception] = []
        for path in files:
            try:
                session = onnxruntime.InferenceSession(str(path), providers=providers)
                task = task_of(session)
            except Exception as error:  # onnxruntime's own; what nobody needs may be damaged
                failures.append(error)
                continue
            if task and task not in self._sessions:
                self._sessions[task], self._files[task] = session, path
        if failures and not {"detection", "recognition"} <= self._sessions.keys():
            raise failures[0]
        self._detector = Detector(self._sessions["detection"])
        self._scaling = {task: _scaling(task, path) for task, path in self._files.items() if task != "detection"}

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(width, height) that the detector is fixed to."""
        return fixed_size(self._sessions["detection"])

    @property
    def finds_landmarks(self) -> bool:
        return self._detector.finds_landmarks

    @property
    def tells_gender(self) -> bool:
        return "gender" in self._sessions

    @property
    def recogniser(self) -> Path | None:
        """The recogniser's file; None where the pack has none."""
        return self._files.get("recognition")

    @property
    def embedding_width(self) -> int | None:
        """The size of the recogniser's embeddings, if its file gives it."""
        width = self._sessions["recognition"].get_outputs()[0].shape[-1]
        return width if isinstance(width, int) else None

    @property
    def providers(self) -> list[str]:
        """The providers that the sessions really use."""
        return list(self._sessions["detection"].get_providers())

    def find(self, picture: np.ndarray, size: tuple[int, int], threshold: float) -> list[Face]:
        """All faces of a BGR picture, with a detector input of `size` (width, height)."""
        boxes, landmarks = self._detector.find(picture, size, threshold)
        faces = []
        for row, points in zip(boxes, landmarks, strict=True):
            embedding = self.embed(align_face(picture, points)[None])[0]
            faces.append(Face(row[:4], points, float(row[4]), embedding, self._gender(picture, row[:4])))
        return faces

    def embed(self, crops: np.ndarray) -> np.ndarray:
        """Raw embeddings (N, 512) of aligned BGR crops (N, 112, 112, 3)."""
        return np.stack([self._run("recognition", crop) for crop in crops])

    def _gender(self, picture: np.ndarray, box: np.ndarray) -> str | None:
        if not self.tells_gender:
            return None
        return GENDERS[int(np.argmax(self._run("gender", cut_head(picture, box))[:2]))]

    def _run(self, task: str, crop: np.ndarray) -> np.ndarray:
        import cv2

        session = self._sessions[task]
        mean, std = self._scaling[task]
        blob = cv2.dnn.blobFromImage(crop, 1 / std, crop.shape[1::-1], (mean, mean, mean), swapRB=True)
        answer = session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: blob})[0]
        return np.asarray(answer, np.float32).reshape(-1)


def cut_head(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A box x0, y0, x1, y1 and what is round it, as a gender model wants it: (96, 96, 3); black outside."""
    import cv2

    x0, y0, x1, y1 = (float(v) for v in box)
    scale = GENDER_SIDE / (max(x1 - x0, y1 - y0, 1e-3) * GENDER_MARGIN)
    shift = [GENDER_SIDE / 2 - scale * (x0 + x1) / 2, GENDER_SIDE / 2 - scale * (y0 + y1) / 2]
    return cv2.warpAffine(picture, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), (GENDER_SIDE, GENDER_SIDE))


def gives_gender(session: Any) -> bool:
    """Whether a model with this input gives insightface's three numbers (gender and age), by a grey picture."""
    entry = session.get_inputs()[0]
    answer = session.run(None, {entry.name: np.full((1, 3, GENDER_SIDE, GENDER_SIDE), 127, np.float32)})
    return np.size(answer[0]) == 3 and bool(np.isfinite(np.asarray(answer[0], np.float32)).all())


def task_of(session: Any) -> str:
    """What a pack's model does, by the shapes of its input and outputs: "detection", "recognition", "gender" or ""."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape
    if len(outputs) in STRIDES_OF:
        return "detection"
    if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 4 or shape[2] != shape[3]:
        return ""
    if shape[2] == GENDER_SIDE:
        return "gender" if gives_gender(session) else ""
    return "recognition" if shape[2] == CROP else ""


def _scaling(task: str, path: Path) -> tuple[float, float]:
    """(mean, divisor) for the pixels; models from MXNet normalise themselves, which their first nodes show."""
    names = first_node_names(path)
    subtracts = any(name.startswith(("Sub", "_minus")) for name in names)
    divides = any(name.startswith(("Mul", "_mul")) for name in names)
    if (subtracts and divides) or (task == "gender" and "bn_data" in names[:3]):
        return 0.0, 1.0
    return 127.5, 128.0 if task == "gender" else 127.5
