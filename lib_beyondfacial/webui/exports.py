"""Identities that travel as one text: the setting "embedding", made from a saved identity or from photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..adapters import registry
from ..adapters.features import compute_portable
from ..errors import BeyondFacialError
from ..faces.aggregate import Identity
from ..faces.analysis import FaceAnalyser
from ..faces.identity_file import HEAD, Record, embedding_to_record, record_to_embedding
from ..faces.records import as_recorded, identity_to_record, packs_of, record_to_identity
from ..settings import Settings
from . import folders, identities
from .fitting import choose_adapter
from .permissions import require_export


def load(settings: Settings, analyser: FaceAnalyser) -> Identity:
    """The identity of the setting "embedding" as this analyser's pack sees it.

    BeyondFacialError names the part that the settings need and the export lacks.
    """
    record = embedding_to_record(settings.embedding)
    identity = record_to_identity(record, analyser)
    if identity is None:
        packs = " or ".join(f'"{pack}"' for pack in packs_of(record))
        raise BeyondFacialError(
            f'"embedding" was made with the face pack {packs} and cannot be used with "{analyser.name}"; export it '
            'again with that pack, or with "keep_crops".'
        )
    if identity.crop is None and settings.idap_strength > 0:
        raise BeyondFacialError(
            '"embedding" holds no head crop, which "idap_strength" needs; export it again with "head_crop", or set '
            '"idap_strength" to 0.'
        )
    return identity


def export_saved(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of GET /beyondfacial/v1/identities/NAME/export; values: of bodies.EXPORT_OPTIONS, checked."""
    require_export()
    record = identities.library().record(name)
    return _export(record, as_recorded(record, name), values)


def export_identity(identity: Identity, values: Mapping[str, Any], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """The answer of POST /beyondfacial/v1/identities/export, for the photos' identity."""
    return _export(identity_to_record(identity, keep_crops=True, side=HEAD), identity, values, warnings)


def _export(
    record: Record, identity: Identity, values: Mapping[str, Any], warnings: Sequence[str] = ()
) -> dict[str, Any]:
    try:
        features = _features(identity, values["adapter"], values["adapter_family"])
    except BeyondFacialError as error:
        if values["adapter"]:
            raise
        features, warnings = {}, (*warnings, f"The export holds no features for an adapter. {error}")
    kept = replace(
        record,
        thumbnail=record.thumbnail if values["head_crop"] else None,
        aligned=record.aligned if values["keep_crops"] else None,
        features=features,
    )
    parts = {
        "photos": len(kept.spaces[0].photos),
        "packs": [space.id for space in kept.spaces],
        "features": list(kept.features),
        "head_crop": kept.thumbnail is not None,
        "face_crops": kept.aligned is not None,
    }
    embedding = record_to_embedding(kept)
    return {"embedding": embedding, "photo_hash": kept.photo_hash, "parts": parts, "warnings": list(warnings)}


def _features(identity: Identity, adapter: str, family: str) -> dict[str, np.ndarray]:
    """What the adapter asks a model about the person."""
    card = registry.peek_adapter(choose_adapter(adapter, family), folders.adapters_by_name(), family)
    if card.spec is None:
        raise BeyondFacialError(card.sentence)
    return compute_portable(identity, card.spec.features, folders.model_roots())
