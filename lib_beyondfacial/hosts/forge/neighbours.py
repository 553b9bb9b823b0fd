"""Units of the Forges that know of one cond and one uncond only, and answer no call but the host's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..extensions import extension_of
from ..types import ModelOptions

ONE_COND = ("forge_preprocessor_reference", "sd_forge_stylealign")  # reference_only, reference_adain; StyleAlign
PATCHES = "transformer_options"


def patches_in(options: Any) -> Iterator[Callable]:
    """Every function in nested options."""
    if isinstance(options, dict):
        options = list(options.values())
    if isinstance(options, list):
        for each in options:
            yield from patches_in(each)
    elif callable(options):
        yield options


def takes_one_cond(model_options: ModelOptions) -> bool:
    """Whether a unit is at work that would mix up the rows of a second cond, and fails in its own code."""
    patches = {id(patch): patch for patch in patches_in(model_options.get(PATCHES, {}))}
    return any(extension_of(patch) in ONE_COND for patch in patches.values())


def without_such_units(model_options: ModelOptions) -> ModelOptions:
    """The options for a call that these units do not expect: they have noted nothing for it, and fail."""
    if not takes_one_cond(model_options):
        return model_options
    return {**model_options, PATCHES: stripped(model_options[PATCHES])}


def stripped(options: Any) -> Any:
    """Nested options without these units' functions; all else is as it was."""
    if isinstance(options, dict):
        return {key: stripped(value) for key, value in options.items() if not is_theirs(value)}
    if isinstance(options, list):
        return [stripped(value) for value in options if not is_theirs(value)]
    return options


def is_theirs(value: object) -> bool:
    return callable(value) and extension_of(value) in ONE_COND
