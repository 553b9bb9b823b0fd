"""The one table of what can be set. It orders the page, the infotext, the API's schema and (later) the X/Y/Z axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

MAX_REFERENCES = 16
MAX_TEXT = 2000
PREFIX = "BeyondFacial"
REFERENCES = ("semantic", "uncond")
FACE_CHOICES = ("largest", "from the left", "female", "male", "most similar")
ALIGNMENTS = ("off", "warn", "follow photo")
FAMILIES = ("auto", "faceid_plus", "faceid_plus_v2", "instantid", "portrait_unnorm")


@dataclass(frozen=True)
class Field:
    """One setting: how it is called in the API, on the page and in the infotext, and what it may be.

    kind is "bool", "float", "int", "text", "choice" or "photos". Published keys are never reused for another meaning.
    """

    key: str
    kind: str
    default: Any
    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = False
    axis: bool = True

    @property
    def infotext(self) -> str:
        """The key under which the infotext carries this field, as in "BeyondFacial mask strength"."""
        return f"{PREFIX} {self.key.replace('_', ' ')}"

    @property
    def expects(self) -> str:
        """What a value must be, in words, for messages and for the docs."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "float":
            return f"a number from {self.minimum:g} to {self.maximum:g}"
        if self.kind == "int":
            return f"a whole number from {self.minimum:g} to {self.maximum:g}"
        if self.kind == "choice":
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        if self.kind == "photos":
            return f"a list of at most {MAX_REFERENCES} photos"
        return f"text of at most {MAX_TEXT} characters"


FIELDS: tuple[Field, ...] = (
    Field("enabled", "bool", False, "BeyondFacial", "Keep this person in the whole scene.", axis=False),
    Field("references", "photos", (), "Photos", "One to 16 photos of one person, who agreed to it.", axis=False),
    Field("identity", "text", "", "Saved identity", "One that was saved, by name, instead of photos."),
    Field("adapter", "text", "", "Identity adapter", "A weight file by name; empty: the only one there is."),
    Field("weight", "float", 1.0, "Identity weight", "Strength of the adapter in the identity line.", 0, 3, 0.05),
    Field("start", "float", 0.0, "Start", "Part of the schedule after which the identity line begins.", 0, 1, 0.01),
    Field("stop", "float", 1.0, "Stop", "Part of the schedule at which the identity line ends.", 0, 1, 0.01),
    Field("mask_strength", "float", 1.0, "Mask strength", "Scales the mask; 0 is the plain picture.", 0, 1, 0.05),
    Field("mask_softness", "float", 0.5, "Mask softness", "Width of the soft edge of the mask.", 0, 1, 0.05),
    Field("idap_strength", "float", 0.5, "Start identity", "How much of the face enters the noise.", 0, 1, 0.05),
    Field("close_look", "bool", True, "Closer look", "Sees a small head from near, once, and puts it back."),
    Field("show_mask", "bool", False, "Show mask", "Append the fusion mask after the pictures.", axis=False),
    *(
        replace(field, advanced=True)
        for field in (
            Field("face_pack", "text", "", "Face pack", "insightface pack; empty: the adapter's own.", axis=False),
            Field("face_choice", "choice", "largest", "Face in a photo", "If it shows several.", choices=FACE_CHOICES),
            Field("face_index", "int", 1, "Face number", 'Counted from the left, for "from the left".', 1, 20, 1),
            Field("adapter_family", "choice", "auto", "Adapter family", "If it cannot be told.", choices=FAMILIES),
            Field("clip_weight", "float", 1.0, "CLIP weight", "Of FaceID-Plus v2's picture of the face.", 0, 2, 0.05),
            Field("identity_in_infotext", "bool", False, "Name in infotext", "Write the saved name.", axis=False),
            Field("subject", "text", "", "Subject words", "Words of the prompt that mean the person."),
            Field("id_prompt", "text", "", "Identity prompt", "Of the identity line; {prompt} is yours."),
            Field(
                "gender_alignment", "choice", "warn", "Gender alignment", "Photo against prompt.", choices=ALIGNMENTS
            ),
            Field("mask_mode", "choice", "adaptive", "Mask mode", "whole: everywhere.", choices=("adaptive", "whole")),
            Field("rho", "float", 1.0, "Damping rho", "Scales what is added (eq. 8).", 0, 2, 0.05),
            Field("stride", "int", 1, "Stride", "Evaluate the identity line at every k-th step.", 1, 8, 1),
            Field("decision_reference", "choice", "semantic", "Decision reference", "Of eq. 4.", choices=REFERENCES),
            Field("smoothing", "float", 0.5, "Smoothing", "How slowly the mask follows (eq. 7).", 0, 0.99, 0.01),
            Field("style", "float", 0.0, "Style alignment", "Pulls to the scene's colours (eq. 9).", 0, 1, 0.05),
        )
    ),
)
BY_KEY: dict[str, Field] = {field.key: field for field in FIELDS}

WHO = frozenset(
    [
        "enabled",
        "references",
        "identity",
        "adapter",
        "show_mask",
        "face_pack",
        "face_choice",
        "face_index",
        "adapter_family",
        "clip_weight",
        "identity_in_infotext",
        "subject",
        "id_prompt",
        "gender_alignment",
    ]
)
PRESETS: dict[str, dict[str, Any]] = {
    "Defaults": {},
    # every part of the paper's, eq. 9 too; stated in full, so that it stays so whatever the defaults become
    "As in the paper": {
        "weight": 1.0,
        "start": 0.0,
        "smoothing": 0.5,
        "idap_strength": 0.5,
        "style": 0.5,
        "close_look": False,
    },
}


def preset_values(name: str) -> dict[str, Any]:
    """Every setting that says how the two lines are fused, as a preset has it; who is meant stays as it is."""
    how = {field.key: field.default for field in FIELDS if field.key not in WHO}
    return how | PRESETS[name]
