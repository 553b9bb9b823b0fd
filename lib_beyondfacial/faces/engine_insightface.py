"""Runs a face pack with the insightface package, without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .engine_onnx import gives_gender
from .face import GENDERS, Face
from .packages import explain_import
from .scrfd import fixed_size

MODULES = ["detection", "recognition", "genderage"]


class InsightfaceEngine:
    """insightface's FaceAnalysis of an existing folder; it would download a pack only if the folder were missing."""

    name = "insightface"

    def __init__(self, pack_dir: Path, providers: list[str]):
        # one session for all sizes: newer releases would keep a copy of the model for each
        self._app = import_face_analysis()(
            name=str(pack_dir), allowed_modules=MODULES, providers=providers, static_shape_sessions=False
        )
        self._prepared: tuple[int, int, float] | None = None
        gender = self._app.models.get("genderage")
        if gender is not None and not gives_gender(gender.session):  # its input shape suggested otherwise
            del self._app.models["genderage"]

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(width, height) that the detector is fixed to."""
        return fixed_size(self._app.det_model.session)

    @property
    def finds_landmarks(self) -> bool:
        return bool(getattr(self._app.det_model, "use_kps", True))

    @property
    def tells_gender(self) -> bool:
        return "genderage" in self._app.models

    @property
    def recogniser(self) -> Path | None:
        """The recogniser's file; None where the pack has none."""
        model = self._app.models.get("recognition")
        return None if model is None else Path(model.model_file)

    @property
    def embedding_width(self) -> int | None:
        """The size of the recogniser's embeddings, if its file gives it."""
        width = self._app.models["recognition"].output_shape[-1]
        return width if isinstance(width, int) else None

    @property
    def providers(self) -> list[str]:
        """The providers that the sessions really use."""
        return list(self._app.det_model.session.get_providers())

    def find(self, picture: np.ndarray, size: tuple[int, int], threshold: float) -> list[Face]:
        """All faces of a BGR picture, with a detector input of `size` (width, height)."""
        if self._prepared != (*size, threshold):
            detector, self._prepared = self._app.det_model, None
            if self.fixed_size is None:
                detector.input_size = None  # otherwise releases before 1.0 keep the first size
            detector.prepare(0, input_size=size, det_thresh=threshold)
            self._prepared = (*size, threshold)
        return [_to_face(found) for found in self._app.get(picture)]

    def embed(self, crops: np.ndarray) -> np.ndarray:
        """Raw embeddings (N, 512) of aligned BGR crops (N, 112, 112, 3)."""
        recogniser = self._app.models["recognition"]
        return np.stack([np.asarray(recogniser.get_feat(crop), np.float32).ravel() for crop in crops])


def _to_face(found: Any) -> Face:
    return Face(
        box=np.asarray(found.bbox, dtype=np.float32),
        landmarks=np.asarray(found.kps, dtype=np.float32),
        score=float(found.det_score),
        embedding=np.asarray(found.embedding, dtype=np.float32),
        gender=None if found.gender is None else GENDERS[int(found.gender == 1)],
    )


def import_face_analysis() -> Any:
    """insightface's FaceAnalysis class, the host's or the private folder's; BeyondFacialError if the import fails."""
    with explain_import("insightface"):
        from insightface.app import FaceAnalysis
    return FaceAnalysis
