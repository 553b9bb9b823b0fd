"""The requests, in names that are the same before and after a renaming, and the names of the code under test."""

from __future__ import annotations

import base64
import functools
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import cv2

from demo.dollhouse.draw import draw
from demo.dollhouse.world import SIZE, Identity, Picture

PROMPT = "photo of a man running in the city, full body shot"
HOST_REQUEST = {"prompt": PROMPT, "seed": 7, "steps": 10, "cfg_scale": 5.0, "width": SIZE, "height": SIZE}
PERSON = Identity(0.35, "red", "spiky", "blue", 0.95, glasses=True, beard=False, gender="man")
SCENES = ("field", "snow", "beach")  # one photo of the person in each

# Neutral name -> what the setting is or was called; the first one that the code under test knows is used.
SETTING_KEYS: dict[str, tuple[str, ...]] = {
    "photos": ("references",),
    "refine": ("refine_head",),
    "start_identity": ("start_identity", "idap_strength"),
    "weight": ("weight",),
    "start": ("start",),
    "stop": ("stop",),
    "mask_mode": ("mask_mode",),
    "stride": ("stride",),
    "style": ("style",),
    "identity_prompt": ("identity_prompt", "id_prompt"),
    "show_mask": ("show_mask",),
}
REPORT_KEYS = {name: (name,) for name in ("similarity", "face_area", "mask_coverage")}


@dataclass(frozen=True)
class Case:
    """One request, or one that a fault ends and a plain one behind it.

    host: changes to HOST_REQUEST. identity: settings by neutral names; None: the extension is not asked.
    fault: "exception", raised in the UNet, or "interrupt", pressed there; both in the middle of the sampling.
    """

    name: str
    host: dict[str, Any]
    identity: dict[str, Any] | None = field(default_factory=dict)
    fault: str = ""

    @property
    def sampler(self) -> str:
        return self.host["sampler_name"]

    @property
    def refines(self) -> bool:
        return bool(self.identity and self.identity.get("refine"))


def case(name: str, sampler: str, refine: bool, host: dict[str, Any] | None = None, **identity: Any) -> Case:
    fault = identity.pop("fault", "")
    # stated in full, so that a change of the defaults compares alike
    settings = {"refine": refine, "start": 0.0, "start_identity": 0.5, "photos": 1, "show_mask": True, **identity}
    return Case(name, {"sampler_name": sampler, **(host or {})}, settings, fault)


PLAIN = Case("plain", {"sampler_name": "Euler"}, None)
CASES = (
    PLAIN,
    case("euler", "Euler", True),
    case("euler_a wide", "Euler a", True, {"width": 4 * SIZE // 3}, start_identity=0.0),
    case("dpmpp_2m style", "DPM++ 2M", False, style=0.5),
    case("ddim", "DDIM", True),
    case("ddim unrefined", "DDIM", False, start_identity=0.0),
    case("batch", "Euler a", True, {"batch_size": 2}),
    case("and", "DPM++ 2M", False, {"batch_size": 2, "prompt": f"{PROMPT} AND red hair and glasses :0.5"}),
    case("long prompt", "Euler", False, {"prompt": f"{PROMPT}, " * 8}, start_identity=0.0),
    case(
        "prompt editing", "DPM++ 2M", True, {"prompt": "photo of a man [sitting:running:0.5] in the city, full body"}
    ),
    case("cfg 1", "Euler", True, {"cfg_scale": 1.0}),
    case("no face", "DPM++ 2M", True, {"width": 320, "height": 128}),  # none is found, and a warning says so
    case("large head", "DDIM", True, {"prompt": "close-up portrait of a man in the snow", "batch_size": 2}),
    case("stride", "DPM++ 2M", True, stride=2),
    case("ddim stride", "DDIM", False, stride=2),
    case("whole mask", "Euler a", False, mask_mode="whole", start_identity=0.0, weight=0.5),
    case("window", "DPM++ 2M", False, start=0.2, stop=0.7, identity_prompt="{prompt}, red hair"),
    case("three photos", "Euler", True, photos=3),
    case("exception", "Euler", False, fault="exception"),
    case("interrupt", "DPM++ 2M", False, fault="interrupt"),
)


@functools.cache
def photos(count: int) -> tuple[str, ...]:
    """Close-ups of one drawn person, as PNG in base64."""
    pictures = [
        Picture(PERSON, scene, "standing", "close-up", details=4 + i) for i, scene in enumerate(SCENES[:count])
    ]
    drawn = [draw(picture, 256, 256)[0] for picture in pictures]
    return tuple(base64.b64encode(cv2.imencode(".png", photo[..., ::-1])[1].tobytes()).decode() for photo in drawn)


def choose_key(name: str, alternatives: dict[str, tuple[str, ...]], known: Collection[str]) -> str:
    """What the code under test calls the thing with this neutral name."""
    for key in alternatives[name]:
        if key in known:
            return key
    raise SystemExit(
        f'The code under test knows none of {", ".join(alternatives[name])}; add what "{name}" is called now to the '
        "tables of tests/golden/cases.py."
    )


def payload_of(case: Case, known: Collection[str]) -> dict[str, Any]:
    """The API's request for a case, for code whose settings have the keys `known`."""
    payload = {**HOST_REQUEST, **case.host}
    if case.identity is not None:
        values = {**case.identity, "photos": list(photos(case.identity["photos"]))}
        unit = {choose_key(name, SETTING_KEYS, known): value for name, value in values.items()}
        payload["alwayson_scripts"] = {"BeyondFacial": {"args": [unit]}}
    return payload
