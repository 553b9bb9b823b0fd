"""Where the host keeps models, and what lies there by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from modules import paths, shared

from ..adapters import registry
from ..errors import BeyondFacialError
from ..faces import packs
from ..faces.recognisers import BY_PACK, recogniser_of

USUAL_PACKS = ("buffalo_l", "antelopev2", "dollhouse")  # the last is the demo's, which has a judge's pack beside it
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
    return [Path(root).absolute() for root in (given, paths.models_path) if root]


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
    """insightface packs by folder name; where two folders hold the same name, the first root wins."""
    return packs.find_packs([folder for root in model_roots() for folder in packs.pack_dirs(root)])


class Pack(NamedTuple):
    """A face pack: its name, which need not be that of the folder with the files."""

    name: str
    folder: Path

    @property
    def recogniser(self) -> str | None:
        """The published one in it, None where it may be any."""
        return recogniser_of(self.name, self.folder)

    def fits(self, wanted: str) -> bool:
        """False where it holds another published recogniser than the pack `wanted`; others are trusted."""
        own_recogniser, wanted_recogniser = self.recogniser, recogniser_of(wanted)
        return own_recogniser is None or wanted_recogniser is None or own_recogniser == wanted_recogniser

    def __str__(self) -> str:
        """Its name as sentences quote it, and what is in it where the name says otherwise."""
        own_recogniser = self.recogniser
        if own_recogniser in (None, recogniser_of(self.name)) or recogniser_of(self.name) is None:
            return f'"{self.name}"'
        published = next(name for name in BY_PACK if BY_PACK[name] == own_recogniser)
        return f'"{self.name}", which holds the files of {published}'


def choose_pack(name: str, wanted: str = "") -> Pack:
    """The pack of that name; for an empty name the one that the adapter wants, else one that may serve it.

    Args:
        name: the user's choice, "" for none.
        wanted: the pack that the adapter was made with; "" where that is not known.

    A published pack with another recogniser than the wanted one's is never chosen by itself.
    """
    found = {each: Pack(each, folder) for each, folder in packs_by_name().items()}
    if not found:
        raise BeyondFacialError(
            f'No face pack was found; put an insightface pack such as "{wanted or "buffalo_l"}" into '
            "models/insightface/models."
        )
    if name in found:
        return found[name]
    if name:
        raise BeyondFacialError(
            f'"face_pack" is "{name[:60]}", which is not there; the packs found are {_listed(found.values())}.'
        )
    fitting = {each.name: each for each in found.values() if each.fits(wanted)}
    same = [each for each in fitting if wanted and fitting[each].recogniser == recogniser_of(wanted) is not None]
    for usual in (wanted, *same, *USUAL_PACKS, *(fitting if len(fitting) == 1 else ())):
        if usual in fitting:
            return fitting[usual]
    if not fitting:
        raise BeyondFacialError(
            f'The adapter was made with the face pack "{wanted}", which is not there (found: '
            f"{_listed(found.values())}); put it into models/insightface/models."
        )
    raise BeyondFacialError(f'There are several face packs; set "face_pack" to one of {_listed(fitting.values())}.')


def _listed(found: Iterable[Pack]) -> str:
    return ", ".join(sorted(map(str, found)))
