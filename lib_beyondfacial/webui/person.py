"""Loads the person and the adapter that the settings name, for generation, face check and saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..adapters import registry
from ..adapters.features import Features, compute_features
from ..errors import BeyondFacialError
from ..faces import analysis, photos
from ..faces.aggregate import Identity, aggregate_photos, unmeasured
from ..faces.choice import FaceChoice
from ..hosts import request
from ..hosts.identity_units import UnitInjection
from ..sampling.advice import advise, persons_advice
from ..settings import Settings
from . import exports, fitting, folders, identities

NOT_MEASURED = (
    "BeyondFacial: no face pack was found, so the likeness was not measured, no head was refined, and the start "
    'stayed the host\'s; put an insightface pack such as "buffalo_l" into models/insightface/models.'
)


@dataclass(frozen=True, eq=False)
class Person:
    """The loaded data of a request: identity, adapter, face pack, and the features that the adapter needs.

    unit: of ControlNet, which draws the person in place of an adapter. analyser: None with a unit and no face pack.
    """

    identity: Identity
    adapter: registry.LoadedAdapter | None
    analyser: analysis.FaceAnalyser | None
    features: Features | None
    warnings: tuple[str, ...]
    unit: UnitInjection | None = None


def load_person(settings: Settings, is_api: bool) -> Person:
    """Load the identity, from photos or a saved name, and the adapter; BeyondFacialError if one cannot be used."""
    adapter = registry.get_adapter(adapter_of(settings), folders.adapters_by_name(), settings.adapter_family)
    analyser, warnings = open_analyser(settings.face_pack, adapter.spec.pack)
    if settings.identity:
        identity = identities.load(settings.identity, analyser)
    elif settings.embedding:
        identity = exports.load(settings, analyser)
    else:
        identity = aggregate_photos(load_photos(settings, is_api), analyser, choice_of(settings))
    features = compute_features(identity, adapter.spec.features, folders.model_roots())
    return Person(identity, adapter, analyser, features, warnings)


def load_drawn_by_unit(settings: Settings, number: int, p: Any) -> Person:
    """Load the identity of a ControlNet unit's own image; without a face pack it is not measured."""
    given = request.find_unit(p, number)
    name = f"the image of ControlNet unit {number}"
    images = [photos.decode_photo(name, image) for image in given.images]
    unit = request.make_unit(given)
    if not folders.packs_by_name() and not settings.face_pack:
        return Person(unmeasured(images), None, None, None, (NOT_MEASURED,), unit)
    analyser, _ = open_analyser(settings.face_pack, pack_of_adapter(settings))  # one pack for all persons
    identity = aggregate_photos(images, analyser, choice_of(settings))
    return Person(identity, None, analyser, None, (), unit)


def load_persons(settings: Settings, is_api: bool, p: Any) -> tuple[Person, ...]:
    """Load every person of the request; BeyondFacialError says whose photos or name cannot be used.

    p: the host's, whose ControlNet may draw a person.
    """

    def load(each: Settings) -> Person:
        number = each.controlnet_unit
        return load_person(each, is_api) if number is None else load_drawn_by_unit(each, number, p)

    if not settings.persons:
        return (load(settings),)
    loaded = []
    for number, each in enumerate(settings.each_person(), 1):
        try:
            loaded.append(load(each))
        except BeyondFacialError as error:
            raise BeyondFacialError(f'Person {number} of "persons": {error}') from error
    return tuple(loaded)


def warn(settings: Settings, loaded: Sequence[Person], prompts: Sequence[str]) -> list[str]:
    """What is to be told of persons, adapter and prompts before anything is sampled, each once."""
    warnings = [warning for each in loaded for warning in each.warnings]
    names = [each.name or f"person {n}" for n, each in enumerate(settings.persons, 1)] or [""]
    for each, of_person, name in zip(settings.each_person(), loaded, names, strict=True):
        warnings += advise(each, of_person.identity.gender, prompts, name)
    return list(dict.fromkeys([*warnings, *persons_advice(settings, prompts)]))


def identify(settings: Settings, is_api: bool) -> tuple[Identity, tuple[str, ...]]:
    """The identity of the photos, to be saved, and warnings about it."""
    if not settings.references:
        raise BeyondFacialError('"references" is empty; give at least one photo of the person.')
    given = load_photos(settings, is_api)  # before the pack, so that unreadable photos are reported without loading it
    analyser, warnings = open_analyser(settings.face_pack, pack_of_adapter(settings))
    identity = aggregate_photos(given, analyser, choice_of(settings))
    return identity, (*warnings, *identity.warnings)


def load_photos(settings: Settings, is_api: bool) -> list[photos.Photo]:
    """Decode the request's photos: texts from the API (never a path), uploaded files from the UI."""
    pixels = photos.pixels_each(len(settings.references))
    if is_api:
        return [photos.decode_photo(f"photo {n}", source, pixels) for n, source in enumerate(settings.references, 1)]
    return [photos.decode_upload(upload, pixels=pixels) for upload in settings.references]


def choice_of(settings: Settings) -> FaceChoice:
    """The choice of face that the settings name."""
    return FaceChoice(settings.face_choice, settings.face_index)


def open_analyser(face_pack: str, wanted: str) -> tuple[analysis.FaceAnalyser, tuple[str, ...]]:
    """Load the face pack; also returns warnings if it does not fit an adapter trained with the pack `wanted`."""
    pack = folders.choose_pack(face_pack, wanted)
    analyser = analysis.get_analyser(pack.folder, folders.face_provider(), pack.name)
    if pack.fits(wanted):
        return analyser, ()
    warning = f'The adapter was made with the face pack "{wanted}"; with {pack} the face will not be like it.'
    return analyser, (warning,)


def adapter_of(settings: Settings) -> str:
    """The adapter's name (fitting.choose_adapter)."""
    return fitting.choose_adapter(settings.adapter, settings.adapter_family)


def pack_of_adapter(settings: Settings) -> str:
    """The pack that the chosen adapter was trained with; "" if that is unknown without loading the adapter."""
    try:
        card = registry.peek_adapter(adapter_of(settings), folders.adapters_by_name(), settings.adapter_family)
    except BeyondFacialError:
        return ""
    return card.spec.pack if card.spec else ""
