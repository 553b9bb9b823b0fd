"""Where the host keeps models, and what lies there by name."""

from __future__ import annotations

from pathlib import Path

from modules import paths, shared

from ..adapters import registry
from ..errors import BeyondFacialError
from ..faces import analysis

USUAL_PACKS = ("buffalo_l", "antelopev2", "dollhouse")  # the last is the demo's, which has a judge's pack beside it


def model_roots() -> list[Path]:
    """The folder of --beyondfacial-models-dir, if given, before the host's own models folder."""
    given = getattr(shared.cmd_opts, "beyondfacial_models_dir", None)
    return [Path(root).resolve() for root in (given, paths.models_path) if root]


def adapters_by_name() -> dict[str, Path]:
    """Adapter files by name; where two folders hold the same name, the first root wins."""
    return registry.list_adapters([folder for root in model_roots() for folder in registry.adapter_dirs(root)])


def packs_by_name() -> dict[str, Path]:
    """insightface packs by folder name."""
    return analysis.find_packs([root / "insightface" / "models" for root in model_roots()])


def choose_pack(name: str) -> Path:
    """The pack of that name; for an empty name a usual one, else the only one there is."""
    packs = packs_by_name()
    if not packs:
        raise BeyondFacialError(
            'No face pack was found; put an insightface pack such as "buffalo_l" into models/insightface/models.'
        )
    if name in packs:
        return packs[name]
    known = ", ".join(f'"{pack}"' for pack in sorted(packs))
    if name:
        raise BeyondFacialError(f'"face_pack" is "{name[:60]}", which is not there; the packs found are {known}.')
    for usual in (*USUAL_PACKS, *(packs if len(packs) == 1 else ())):
        if usual in packs:
            return packs[usual]
    raise BeyondFacialError(f'There are several face packs; set "face_pack" to one of {known}.')
