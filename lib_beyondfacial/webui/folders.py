"""Where the host keeps models, and what lies there by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modules import paths, shared

from ..adapters import registry
from ..errors import BeyondFacialError
from ..faces import analysis

USUAL_PACKS = ("buffalo_l", "antelopev2", "dollhouse")  # the last is the demo's, which has a judge's pack beside it
# insightface's published packs by the recogniser in them: identities of different ones are noise to each other
RECOGNISERS = {
    "buffalo_l": "ResNet50@WebFace600K",
    "buffalo_m": "ResNet50@WebFace600K",
    "buffalo_s": "MobileFaceNet@WebFace600K",
    "buffalo_sc": "MobileFaceNet@WebFace600K",
    "antelopev2": "ResNet100@Glint360K",
}
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}


def model_roots() -> list[Path]:
    """The folder of --beyondfacial-models-dir, if given, before the host's own models folder."""
    given = getattr(shared.cmd_opts, "beyondfacial_models_dir", None)
    return [Path(root).resolve() for root in (given, paths.models_path) if root]


def identities_dir() -> Path:
    """Where saved identities lie; it is made when the first one is saved."""
    return model_roots()[0] / "beyondfacial" / "identities"


def face_provider() -> str:
    """onnxruntime's name for what --beyondfacial-face-provider says."""
    return PROVIDERS[getattr(shared.cmd_opts, "beyondfacial_face_provider", None) or "cpu"]


def adapters_by_name() -> dict[str, Path]:
    """Adapter files by name; where two folders hold the same name, the first root wins."""
    return registry.list_adapters([folder for root in model_roots() for folder in registry.adapter_dirs(root)])


def packs_by_name() -> dict[str, Path]:
    """insightface packs by folder name."""
    return analysis.find_packs([root / "insightface" / "models" for root in model_roots()])


def choose_pack(name: str, wanted: str = "") -> Path:
    """The pack of that name; for an empty name the one that the adapter wants, else one that may serve it.

    Args:
        name: the user's choice, "" for none.
        wanted: the pack that the adapter was made with; "" where that is not known.

    A published pack with another recogniser than the wanted one's is never chosen by itself.
    """
    packs = packs_by_name()
    if not packs:
        raise BeyondFacialError(
            f'No face pack was found; put an insightface pack such as "{wanted or "buffalo_l"}" into '
            "models/insightface/models."
        )
    if name in packs:
        return packs[name]
    known = _quoted(packs)
    if name:
        raise BeyondFacialError(f'"face_pack" is "{name[:60]}", which is not there; the packs found are {known}.')
    fitting = [pack for pack in packs if is_fitting(pack, wanted)]
    for usual in (wanted, *USUAL_PACKS, *(fitting if len(fitting) == 1 else ())):
        if usual in fitting:
            return packs[usual]
    if not fitting:
        raise BeyondFacialError(
            f'The adapter was made with the face pack "{wanted}", which is not there (found: {known}); put it into '
            "models/insightface/models."
        )
    raise BeyondFacialError(f'There are several face packs; set "face_pack" to one of {_quoted(fitting)}.')


def is_fitting(pack: str, wanted: str) -> bool:
    """False for two published packs with different recognisers; other names may be anything, and are trusted."""
    mine, theirs = RECOGNISERS.get(pack), RECOGNISERS.get(wanted)
    return mine is None or theirs is None or mine == theirs


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))
