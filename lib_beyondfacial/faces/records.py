"""Identities as a run has them, and the records that files and exports hold of them."""

from __future__ import annotations

import time

import numpy as np

from .aggregate import Identity
from .analysis import FaceAnalyser
from .identity_file import HEAD, THUMBNAIL, Record, Space
from .quality import mean_direction


def identity_to_record(identity: Identity, keep_crops: bool, side: int = THUMBNAIL) -> Record:
    """What is kept of an identity; side: of its head in px, THUMBNAIL or HEAD."""
    import cv2

    space = Space(identity.space, identity.embedding, identity.norm, identity.photos, identity.norms, identity.weights)
    head = identity.crop
    if head is not None and len(head) != side:
        head = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    return Record(
        photo_hash=identity.photo_hash,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        thumbnail=head,
        spaces=(space,),
        gender=identity.gender,
        aligned=identity.aligned if keep_crops else None,
        features=identity.features,
    )


def record_to_identity(record: Record, analyser: FaceAnalyser, name: str = "") -> Identity | None:
    """The identity as this analyser's pack sees it, from its embeddings or from the crops that were kept.

    name: under which it is saved, "" for an export. None where the record has neither for this pack.
    """
    space = _space_of(record, analyser) or _space_from_crops(record, analyser)
    return None if space is None else _to_identity(record, space, analyser.space, name)


def as_recorded(record: Record, name: str = "") -> Identity:
    """The identity as the first of the record's packs sees it; no pack is loaded."""
    return _to_identity(record, record.spaces[0], record.spaces[0].id, name)


def _to_identity(record: Record, space: Space, space_id: str, name: str) -> Identity:
    import cv2

    head = record.thumbnail
    if head is not None and len(head) != HEAD:
        head = cv2.resize(head, (HEAD, HEAD), interpolation=cv2.INTER_CUBIC)
    return Identity(
        embedding=space.embedding,
        norm=space.norm,
        crop=head,
        names=tuple(f"photo {n}" for n in range(1, len(space.photos) + 1)),
        warnings=(),
        photo_hash=record.photo_hash,
        photos=space.photos,
        norms=space.norms,
        weights=space.weights,
        aligned=record.aligned,
        gender=record.gender,
        space=space_id,
        name=name,
        features=record.features,
    )


def packs_of(record: Record) -> tuple[str, ...]:
    """Names of the packs whose embeddings it has."""
    return tuple(space.id.rpartition(":")[0] for space in record.spaces)


def recogniser_of(space: str) -> str:
    """The hash of the recogniser whose space it is."""
    return space.rpartition(":")[2]


def _space_of(record: Record, analyser: FaceAnalyser) -> Space | None:
    """The embeddings of this recogniser, compared by hash, because the pack's folder may have another name."""
    wanted = recogniser_of(analyser.space)
    return next((space for space in record.spaces if recogniser_of(space.id) == wanted), None)


def _space_from_crops(record: Record, analyser: FaceAnalyser) -> Space | None:
    """Compute this pack's embeddings from the saved crops, with the saved weights."""
    if record.aligned is None:
        return None
    raw = analyser.embed(record.aligned).astype(np.float64)
    norms = np.linalg.norm(raw, axis=1)
    if not np.isfinite(norms).all() or not (norms > 0).all():
        return None
    photos = raw / norms[:, None]
    weights = record.spaces[0].weights
    return Space(
        analyser.space,
        mean_direction(photos, weights.astype(np.float64)),
        float(weights @ norms),
        photos.astype(np.float32),
        norms.astype(np.float32),
        weights,
    )
