"""Units of the web UI's ControlNet that draw a person: found in the request, and confined to that person's line.

Their way into the UNet is the host's; hosts/*/identity_units.py know it. Outside the identity line's calls such a unit
is off, so the semantic line is what it is without the unit; ControlNet's other units stay on both lines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import BeyondFacialError, printable
from ..sampling.plan import Plan
from ..unet.injection import Attached, IdentityAttention, attach_attention
from ..unet.rows import LineRows
from ..unet.sites import AttentionSite, Site
from .types import Processing

TITLE = "controlnet"  # of its script, in lower case
IMAGES = ("image", "input_image")  # of a unit; the second is an older name
COLOURS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1))  # of InstantID's five points: eyes, nose, mouth
NOSE, POINT, LIMB, SHADE = 2, 10.0, 4.0, 0.6  # number of a point; px, px and a factor of InstantID's own drawing
NO_CONTROLNET = (
    '"source" is "ControlNet unit {number}", and no ControlNet runs in this job; install it (for ADetailer\'s pass: '
    'add "controlnet" to its "Script names"), or set "source" to "photos".'
)


@dataclass(frozen=True, eq=False)
class GivenUnit:
    """A ControlNet unit as the request gives it.

    number: its place among all units, from 0, as on ControlNet's tabs. place: among those that are on, `units_on`.
    images: its own, each an array or base64.
    """

    number: int
    place: int
    units_on: tuple[Any, ...]
    model: str
    images: tuple[Any, ...]

    @property
    def label(self) -> str:
        return f'ControlNet unit {self.number} ("{printable(self.model)}")'


def find_script(p: Processing) -> Any:
    """ControlNet's script in this request; None without it."""
    scripts = getattr(getattr(p, "scripts", None), "alwayson_scripts", None) or []
    return next((script for script in scripts if str(script.title()).lower() == TITLE), None)


def find_given(p: Processing, number: int, on_by_default: bool) -> GivenUnit:
    """The request's unit of this number; BeyondFacialError if there is none, it is off, or has no image of its own.

    on_by_default: whether the host runs a unit of the API that does not say "enabled".
    """
    script = find_script(p)
    if script is None:
        raise BeyondFacialError(NO_CONTROLNET.format(number=number))
    args = getattr(p, "script_args", ())[script.args_from : script.args_to]
    units = [each for each in args if isinstance(each, Mapping) or hasattr(each, "enabled")]
    if number >= len(units):
        few = {0: "no unit", 1: "unit 0 alone"}
        count = few.get(len(units), f"the units 0 to {len(units) - 1}")
        raise BeyondFacialError(
            f'"source" is "ControlNet unit {number}", and the request has {count}; count them from 0.'
        )
    units_on = [each for each in units if value_of(each, "enabled", on_by_default)]
    places = [n for n, each in enumerate(units) if value_of(each, "enabled", on_by_default)]
    model = str(value_of(units[number], "model", None) or "no model")
    if number not in places:
        raise BeyondFacialError(
            f'"source" is "ControlNet unit {number}", which is off; switch it on, or set "source" to "photos".'
        )
    refuse_other_tabs(units[number], number)
    images = tuple(images_in(next(filter(is_given, (value_of(units[number], key, None) for key in IMAGES)), None)))
    if not images:
        raise BeyondFacialError(f"ControlNet unit {number} has no image of its own; give it the person's photo.")
    return GivenUnit(number, places.index(number), tuple(units_on), model, images)


def mode_of(unit: Any) -> str:
    """On which of ControlNet's tabs the unit's pictures are: "simple", "batch" or "merge" ("Multi-Inputs")."""
    mode = value_of(unit, "input_mode", "simple")
    return str(getattr(mode, "value", mode)).rpartition(".")[2].lower()


def refuse_other_tabs(unit: Any, number: int) -> None:
    """BeyondFacialError for a unit whose pictures are not its image; A1111 puts those of "Multi-Inputs" there."""
    mode = mode_of(unit)
    if mode == "batch" or (mode == "merge" and value_of(unit, "batch_input_gallery", None)):
        tab = {"batch": "Batch", "merge": "Multi-Inputs"}[mode]
        raise BeyondFacialError(
            f'ControlNet unit {number} takes its pictures from its tab "{tab}"; put the photo on its tab for '
            "a single image."
        )


def value_of(unit: Any, key: str, default: Any) -> Any:
    return unit.get(key, default) if isinstance(unit, Mapping) else getattr(unit, key, default)


def is_given(value: Any) -> bool:
    return value is not None


def images_in(value: Any) -> Iterator[Any]:
    """The pictures of a unit's image: one, a list, or objects that hold one beside its mask."""
    if isinstance(value, Mapping):
        value = value.get("image")
    if isinstance(value, (list, tuple)):
        pair = len(value) == 2 and not isinstance(value[0], Mapping)  # noqa: PLR2004  image and mask
        for each in value[:1] if pair else value:
            yield from images_in(each)
    elif value is not None:
        yield value


class UnitInjection(ABC):
    """The unet.injection.Injection of a ControlNet unit."""

    device_bytes = 0  # the host counts its own unit

    def __init__(self, given: GivenUnit):
        self.given = given

    def check_fits(self, sites: Sequence[Site]) -> None:  # noqa: B027  nothing to check
        """The host has loaded the unit for its own model."""

    @abstractmethod
    def find(self, p: Processing) -> None:
        """Find the unit as the host runs it in this pass; BeyondFacialError if it cannot be confined."""
        ...

    @abstractmethod
    def confined(self, p: Processing) -> AbstractContextManager[None]:
        """Keep the unit that was found out of all calls of this pass but the identity line's."""
        ...

    @abstractmethod
    def attention(
        self, sites: Sequence[AttentionSite], where: LineRows, weight: float
    ) -> AbstractContextManager[IdentityAttention]:
        """What the unit adds to the attention of these rows in the UNet call made inside the context.

        Whatever else it adds to the call, times weight, is added here.
        """
        ...

    @contextmanager
    def attached(self, sites: Sequence[AttentionSite], where: LineRows, weight: float) -> Iterator[Attached]:
        """Add the unit, times weight, to these rows of the UNet call made inside the context."""
        with ExitStack() as scope:
            attention = scope.enter_context(self.attention(sites, where, weight))
            yield scope.enter_context(attach_attention(attention, sites, where, weight))

    def refused(self, why: str) -> BeyondFacialError:
        """The error for a unit that cannot draw a person here."""
        return BeyondFacialError(f'{self.given.label} {why}; choose another unit, or set "source" to "photos".')


def units_of(plan: Plan) -> tuple[UnitInjection, ...]:
    """The ControlNet units that draw persons of this plan."""
    injections = (injection for line in plan.lines for injection in line.injections)
    return tuple(each for each in injections if isinstance(each, UnitInjection))


def keep_input(inputs: dict[int, Tensor], number: int) -> Callable:
    """A forward pre-hook that keeps the input of a site's `to_q`."""

    def hook(module: nn.Module, args: tuple) -> None:
        inputs[number] = args[0]

    return hook


def draw_landmarks(points: np.ndarray, side: int) -> np.ndarray:
    """InstantID's picture of a face: a disc for each point, and an ellipse from each to the nose.

    Args:
        points: (5, 2) x, y as shares of the side.

    Returns: RGB (3, side, side) in [0, 1].
    """
    y, x = np.mgrid[:side, :side].astype(np.float32)
    picture, given = np.zeros((3, side, side), np.float32), np.asarray(points, np.float32) * side
    for number, (point, colour) in enumerate(zip(given, COLOURS, strict=True)):
        half = (given[NOSE] - point) / 2
        if number == NOSE or not half.any():
            continue
        length, centre = float(np.hypot(*half)), point + half
        along = ((x - centre[0]) * half[0] + (y - centre[1]) * half[1]) / length
        across = ((y - centre[1]) * half[0] - (x - centre[0]) * half[1]) / length
        inside = (along / length) ** 2 + (across / LIMB) ** 2 <= 1
        picture[:, inside] = SHADE * np.array(colour)[:, None]
    for point, colour in zip(given, COLOURS, strict=True):
        picture[:, (x - point[0]) ** 2 + (y - point[1]) ** 2 <= POINT**2] = np.array(colour)[:, None]
    return picture
