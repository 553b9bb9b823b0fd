"""Records to rows: FastFace's protocol (arXiv 2505.21144), similarity by how much of the picture the face fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import intervals

EDGES = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 1.0)  # of the face's share of the picture
CLOSE_UP = 0.08  # a face of a larger share is no full-body shot: a head is an eighth of a body's height
COLUMNS = {
    "similarity": "similarity (misses count 0)",
    "similarity_found": "similarity (misses left out)",
    "similarity_fed": "to the fed photo (misses 0)",
    "found": "face found",
    "count_right": "one face, as asked",
    "face_ratio": "face's share of the picture",
    "close_up": f"close-up (share above {CLOSE_UP})",
    "copying": "copying (CP)",
    "clip": "CLIP-T",
    "probe_hit": "mask at the face",
    "seconds": "seconds",
}
Record = dict[str, Any]


def values_of(records: Sequence[Record], name: str) -> np.ndarray:
    """One column, of the records that have it."""
    if name in ("similarity", "similarity_fed"):
        return np.array([record[name] or 0.0 for record in records])
    if name == "similarity_found":
        return np.array([record["similarity"] for record in records if record["similarity"] is not None])
    if name == "found":
        return np.array([float(record["faces"] > 0) for record in records])
    if name == "count_right":
        return np.array([float(record["faces"] == record["expected"]) for record in records])
    if name == "close_up":
        return np.array([float(record["face_ratio"] > CLOSE_UP) for record in records])
    return np.array([record[name] for record in records if record[name] is not None], np.float64)


def row_of(method: str, records: Sequence[Record]) -> dict[str, Any]:
    row: dict[str, Any] = {"method": method, "n": len(records)}
    for name in COLUMNS:
        if name == "copying":
            found = [record for record in records if record["angle_more"] is not None]
            more, apart = (np.array([record[key] for record in found]) for key in ("angle_more", "angle_photos"))
            estimate = intervals.ratio(more, apart) if found else None
        else:
            values = values_of(records, name)
            estimate = intervals.mean(values) if len(values) else None
        row[name], row[f"{name}_ci"] = (None, None) if estimate is None else estimate.rounded()
    return row


def by_ratio(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Similarity in bins of the face's share of the picture; pictures without a face are in none."""
    bins = []
    for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
        inside = [record for record in records if low < record["face_ratio"] <= high]
        entry: dict[str, Any] = {"above": low, "to": high, "n": len(inside)}
        estimate = intervals.mean(values_of(inside, "similarity")) if inside else None
        entry["similarity"], entry["similarity_ci"] = (None, None) if estimate is None else estimate.rounded()
        bins.append(entry)
    return bins


def summarise(records: Sequence[Record], about: dict[str, Any]) -> dict[str, Any]:
    """The content of result.json."""
    by_method: dict[str, list[Record]] = {}
    for record in records:
        by_method.setdefault(record["method"], []).append(record)
    return {
        "about": about,
        "rows": [row_of(name, of_method) for name, of_method in by_method.items()],
        "by_ratio": {name: by_ratio(of_method) for name, of_method in by_method.items()},
        "warnings": sorted({warning for record in records for warning in record["warnings"]}),
        "records": list(records),
    }
