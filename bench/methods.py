"""The table's rows: what each method gives the API besides the photo, and what it puts in place of our own parts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from lib_beyondfacial.settings import FIELDS

SINGLE = {"mask_mode": "whole", "idap_strength": 0.0, "rho": 1.0}
LATE = 0.2  # the users' workaround: let the scene stand before the identity begins


@dataclass(frozen=True)
class Method:
    """settings: what differs from the defaults; None: the extension is off. alternative: a name of ALTERNATIVES."""

    name: str
    says: str
    settings: dict[str, Any] | None = field(default_factory=dict)
    alternative: str = ""

    @property
    def needs_boxes(self) -> bool:
        """Whether it must know where the head is in the plain picture."""
        return self.alternative == "oracle_mask"

    def resolved(self) -> dict[str, Any] | None:
        """All settings with their values; None: the extension is off."""
        if self.settings is None:
            return None
        return {f.key: f.default for f in FIELDS if f.key not in ("enabled", "references")} | self.settings


def single(weight: float, start: float = 0.0) -> dict[str, Any]:
    return {**SINGLE, "weight": weight, "start": start}


TABLE = (
    Method("plain", "no identity at all", None),
    Method("single_line", "the adapter in the one line, weight 1, from the start", single(1.0)),
    Method("single_line_w0.5", "the same, weight 0.5", single(0.5)),
    Method("single_line_w1.5", "the same, weight 1.5", single(1.5)),
    Method("single_line_w2", "the same, weight 2", single(2.0)),
    Method("single_line_late", f"weight 1, begun after {LATE} of the schedule", single(1.0, LATE)),
    Method("single_line_late_w2", "the same, weight 2", single(2.0, LATE)),
    Method(
        "saliency_only",
        "two lines, hard argmax of the smoothed responses over the picture (the relatives' way)",
        {"idap_strength": 0.0},
        "saliency_only",
    ),
    Method("oracle_mask", "two lines, the mask is the head's box in the plain picture", alternative="oracle_mask"),
    Method("beyondfacial", "the defaults"),
    Method(
        "minus_attention",
        "without attention: decided by saliency over the picture, softly",
        alternative="no_attention",
    ),
    Method("minus_decision", "without the decision: all that attention lets through", alternative="no_decision"),
    Method("minus_smoothing", "without smoothing over the levels", {"smoothing": 0.0}),
    Method("minus_idap", "without the start's identity", {"idap_strength": 0.0}),
)
RESEARCH = (
    Method("region_head", "region by the head probe alone", alternative="region_head"),
    Method("region_person", "region by the person words alone", alternative="region_person"),
    Method("region_energy", "region by the identity energy alone", alternative="region_energy"),
    Method("argmax_in_region", "hard argmax inside attention's gate", alternative="argmax_in_region"),
    Method("saliency_over_picture", "saliency over the whole picture", alternative="saliency_over_picture"),
    Method("reference_uncond", "R_i against D_u", {"decision_reference": "uncond"}),
    Method("stride_2", "identity line at every second level", {"stride": 2}),
    Method("idap_prior", "the start's box by the prior", alternative="prior_start"),
)
METHODS: dict[str, Method] = {method.name: method for method in (*TABLE, *RESEARCH)}
QUICK = ("plain", "single_line", "beyondfacial")


def parse_method(text: str) -> Method:
    """A method from the command line: NAME[@ALTERNATIVE][:KEY=VALUE,...], as in "strong@no_decision:weight=3"."""
    head, _, values = text.partition(":")
    name, _, alternative = head.partition("@")
    items = (item.partition("=") for item in values.split(",") if item)
    settings = {key: value_of(value) for key, _, value in items}
    unknown = settings.keys() - {f.key for f in FIELDS}
    if not name or unknown:
        raise ValueError(f"{text!r}: {', '.join(sorted(unknown)) or 'a method without a name'} is not known.")
    return Method(name, values or "the defaults", settings, alternative)


def value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
