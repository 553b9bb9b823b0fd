"""The model folders of the host, and the adapters and face packs in them by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from modules import paths, shared

from ..adapters import registry
from ..errors import BeyondFacialError
from ..faces import packs
from ..faces.recognisers import BY_PACK, recogniser_of

USUAL_PACKS = ("buffalo_l", "antelopev2", "dollhouse")  # the last is the demo's; its other pack is only for judging
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
    """The folder of saved identities; it is created when the first one is saved."""
    return model_roots()[0] / "beyondfacial" / "identities"


def face_provider() -> str:
    """onnxruntime's name for the value of --beyondfacial-face-provider."""
    return PROVIDERS[getattr(shared.cmd_opts, "beyondfacial_face_provider", None) or "cpu"]


def adapters_by_name() -> dict[str, Path]:
    """Adapter files by name; if two folders have the same name, the first folder wins."""
    return registry.list_adapters([folder for root in model_roots() for folder in registry.adapter_dirs(root)])


def packs_by_name() -> dict[str, Path]:
    """insightface packs by folder name; if two folders have the same name, the first folder wins."""
    return packs.find_packs([folder for root in model_roots() for folder in packs.pack_dirs(root)])


class Pack(NamedTuple):
    """A face pack: its name, which may differ from the name of the folder with its files."""

    name: str
    folder: Path

    @property
    def recogniser(self) -> str | None:
        """The published recogniser in it; None if unknown."""
        return recogniser_of(self.name, self.folder)

    def fits(self, wanted: str) -> bool:
        """False if its published recogniser differs from that of the pack `wanted`; True if either is unknown."""
        own_recogniser, wanted_recogniser = self.recogniser, recogniser_of(wanted)
        return own_recogniser is None or wanted_recogniser is None or own_recogniser == wanted_recogniser

    def __str__(self) -> str:
        """The quoted name for sentences, and the published pack whose files it has, if that is another."""
        own_recogniser = self.recogniser
        if own_recogniser in (None, recogniser_of(self.name)) or recogniser_of(self.name) is None:
            return f'"{self.name}"'
        published = next(name for name in BY_PACK if BY_PACK[name] == own_recogniser)
        return f'"{self.name}", which holds the files of {published}'


def choose_pack(name: str, wanted: str = "") -> Pack:
    """The pack of that name; for "" the pack of the adapter, else one that fits.

    Args:
        name: the user's choice, "" for none.
        wanted: the pack that the adapter was trained with; "" if unknown.

    A published pack with another recogniser than the wanted one is never chosen automatically.
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
            f'"face_pack" is "{name[:60]}", which was not found; choose one of these: {_listed(found.values())}.'
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
