"""The table's rows: each method's settings besides the photo, and what it puts in place of our own parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lib_beyondfacial.settings import FIELDS, PRESETS

SINGLE = {"mask_mode": "whole", "idap_strength": 0.0, "rho": 1.0}
REFINE_ONLY = {"start": 0.5}  # of 10 steps: the level at which the head is refined
LATE = 0.2  # the users' workaround: let the scene stand before the identity begins


@dataclass(frozen=True)
class Method:
    """settings: what differs from the defaults; None: the extension is off. alternative: a name of ALTERNATIVES.

    photos: how many of the person; strangers: how many of somebody else come after them. medium: in place of the
    prompt's "photo of". wide: by how much the picture is wider than high. other_gender: the prompt's person word is
    the other gender's, and the photo's own is known.
    """

    name: str
    says: str
    settings: dict[str, Any] | None = field(default_factory=dict)
    alternative: str = ""
    after: str = ""
    strength: float | None = None
    base: str = "plain"
    sampling: dict[str, Any] = field(default_factory=dict)
    first: int | None = None
    photos: int = 1
    strangers: int = 0
    medium: str = ""
    wide: float = 1.0
    other_gender: bool = False

    @property
    def case(self) -> list[Any]:
        """What is asked of it beyond one photo, one square and the pair's own prompt."""
        return [self.after, self.strength, self.photos, self.strangers, self.medium, self.wide, self.other_gender]

    @property
    def is_plain(self) -> bool:
        return self.settings is None

    @property
    def needs_boxes(self) -> bool:
        """Whether it must know where the head is in the plain picture."""
        return self.alternative == "oracle_mask"

    @property
    def needs(self) -> list[str]:
        """Methods whose pictures must be there first."""
        return [] if self.is_plain else list(dict.fromkeys(filter(None, [self.base, self.after])))

    def resolved(self) -> dict[str, Any] | None:
        """All settings with their values; None: the extension is off."""
        if self.settings is None:
            return None
        return {f.key: f.default for f in FIELDS if f.key not in ("enabled", "references")} | self.settings


def single(weight: float, start: float = 0.0) -> dict[str, Any]:
    return {**SINGLE, "weight": weight, "start": start}


FEWER = 200  # pairs of the rows that show what one part does
DETAILED = "then the heads redrawn by a detailer's pass with this adapter"
ADETAILER = 0.4  # its default denoising strength
MAIN = (
    Method("plain", "no identity at all", None),
    Method("single_line", "the adapter in the one line, weight 1, from the start", single(1.0)),
    Method("single_line_late", f"weight 1, begun after {LATE} of the schedule", single(1.0, LATE)),
    Method("detailer", f"plain, {DETAILED} at its usual strength", after="plain", strength=ADETAILER),
    Method("late_detailer", f"single_line_late, {DETAILED}", after="single_line_late", strength=ADETAILER),
    Method("detailer_refined", f"plain, {DETAILED} that redraws as the refinement does", after="plain"),
    Method("refine_only", "the head refinement alone, no identity line before it", REFINE_ONLY, "no_mask"),
    Method("beyondfacial", "the defaults"),
)
PARTS = (
    Method(
        "saliency_only",
        "two lines, hard argmax of the smoothed responses over the picture (the relatives' way)",
        {"start": 0.0, "refine_head": False},
        "saliency_only",
    ),
    Method(
        "oracle_mask",
        "two lines, the mask is the head's box in the plain picture; no head refinement",
        {"refine_head": False},
        "oracle_mask",
    ),
    Method(
        "minus_attention",
        "without attention: decided by saliency over the picture, softly",
        alternative="no_attention",
    ),
    Method("minus_decision", "without the decision: all that attention lets through", alternative="no_decision"),
    Method("minus_smoothing", "without smoothing over the levels", {"smoothing": 0.0}),
    Method("minus_refinement", "without the head refinement", {"refine_head": False}),
    Method("minus_crop_weight", "weight 1 in the head refinement, too", {"refine_weight": 1.0}),
    Method("minus_details", "without the refined head's details in the finished picture", alternative="no_details"),
    Method("minus_late_start", "the line begins at 0", {"start": 0.0}),
    Method("plus_start_identity", "with a start identity of .5", {"idap_strength": 0.5}),
    Method("as_in_the_paper", 'the preset "As in the paper"', PRESETS["As in the paper"]),
)
TABLE = MAIN + tuple(replace(method, first=FEWER) for method in PARTS)
RESEARCH = (
    Method("single_line_w0.5", "the adapter in the one line, weight 0.5", single(0.5)),
    Method("single_line_w1.5", "the adapter in the one line, weight 1.5", single(1.5)),
    Method("single_line_w2", "the adapter in the one line, weight 2", single(2.0)),
    Method("single_line_late_w2", "the workaround at weight 2", single(2.0, LATE)),
    Method("region_head", "region by the head probe alone", alternative="region_head"),
    Method("region_person", "region by the person words alone", alternative="region_person"),
    Method("region_energy", "region by the identity energy alone", alternative="region_energy"),
    Method("argmax_in_region", "hard argmax inside attention's gate", alternative="argmax_in_region"),
    Method("saliency_over_picture", "saliency over the whole picture", alternative="saliency_over_picture"),
    Method("reference_uncond", "R_i against D_u", {"decision_reference": "uncond"}),
    Method("stride_2", "identity line at every second level", {"stride": 2}),
    Method("idap_prior", "a start identity of .5, its box by the prior", {"idap_strength": 0.5}, "prior_start"),
    Method("gate_0.5", "the gate's centre at 0.5", alternative="gate_0.5"),
    Method("gate_0.6", "the gate's centre at 0.6", alternative="gate_0.6"),
    Method("gate_0.8", "the gate's centre at 0.8", alternative="gate_0.8"),
    Method("branch_rescaled", "the branch has the text attention's norm (UniID)", alternative="branch_rescaled"),
    Method("activation_map", "A_i by the branch's attention before softmax (DynamicID)", alternative="activation_map"),
    Method("crop_weight_0.7", "weight .7 in the crop alone (FastFace's own scale)", {"refine_weight": 0.7}),
    Method("crop_weight_1.6", "weight 1.6 in the crop alone", {"refine_weight": 1.6}),
)
FRONTIER = (
    Method("detailer_0.6", f"plain, {DETAILED}, strength .6", after="plain", strength=0.6),
    Method("late_detailer_refined", f"single_line_late, {DETAILED} as the refinement", after="single_line_late"),
    Method("plus_detailer", f"the defaults, {DETAILED} that redraws as the refinement does", after="beyondfacial"),
    *(Method(f"start_{s}", f"the line begins at {s}", {"start": s}) for s in (0.2, 0.3, 0.5, 0.6)),
    *(Method(f"weight_{w}", f"weight {w}", {"weight": w}) for w in (0.7, 1.3)),
    *(Method(f"crop_only_{w}", f"weight {w} before the refinement, 1.3 in it", {"weight": w, "refine_weight": 1.3 / w})
      for w in (0.5, 0.7)),
    Method("mask_softness_0.2", "a narrower edge", {"mask_softness": 0.2}),
    *(Method(f"start_identity_{g}", f"a start identity of {g}", {"idap_strength": g}) for g in (0.25, 0.5)),
)  # fmt: skip
FOLLOW = {"gender_alignment": "follow photo"}
INK = "ink drawing of"
CASES = (
    Method("photos_3", "three photos of the person", photos=3),
    Method("photos_8", "eight photos of the person", photos=8),
    Method("photos_3_stranger", "three photos of the person, and one of somebody else", photos=3, strangers=1),
    Method("wide_plain", "3:2, no identity", None, wide=1.5),
    Method("wide_single_line", "3:2, the adapter in the one line, weight 1", single(1.0), base="wide_plain", wide=1.5),
    Method("wide", "3:2, the defaults", base="wide_plain", wide=1.5),
    Method("ink_plain", "ink drawings, no identity", None, medium=INK),
    Method("ink", "ink drawings, the defaults", base="ink_plain", medium=INK),
    Method("ink_style_0.5", "ink, style alignment 0.5 (eq. 9)", {"style": 0.5}, base="ink_plain", medium=INK),
    Method("ink_style_1", "ink, style alignment 1", {"style": 1.0}, base="ink_plain", medium=INK),
    Method("other_plain", "the prompt names the other gender, no identity", None, other_gender=True),
    Method("other_gender", "the other gender, the photo is not followed", base="other_plain", other_gender=True),
    Method(
        "other_gender_followed", "the same, the identity line's prompt follows", FOLLOW, base="other_plain",
        other_gender=True,
    ),
)  # fmt: skip
FAST = {"LCM": ("lcm", 1.0), "Euler": ("euler", 1.5), "DPM++ SDE": ("sde", 2.0)}  # of distilled models: CFG 1 to 2


def make_fast() -> Iterator[Method]:
    """Few steps at a low CFG scale, as distilled models are run; Dollhouse's own model is not distilled."""
    for sampler, (short, cfg_scale) in FAST.items():
        for steps in (4, 6, 8):
            sampling = {"steps": steps, "cfg_scale": cfg_scale, "sampler_name": sampler}
            name, says = f"{short}_{steps}", f"{sampler}, {steps} steps, CFG {cfg_scale:g}"
            yield Method(f"{name}_plain", f"{says}: no identity", None, sampling=sampling)
            yield Method(name, f"{says}: the defaults", base=f"{name}_plain", sampling=sampling)
            late = single(1.0, LATE)
            yield Method(f"{name}_late", f"{says}: {LATE} late", late, base=f"{name}_plain", sampling=sampling)


FAST_METHODS = tuple(make_fast())
BESIDE = tuple(replace(method, first=FEWER) for method in (*RESEARCH, *FRONTIER, *CASES, *FAST_METHODS))
METHODS: dict[str, Method] = {method.name: method for method in (*TABLE, *BESIDE)}
STARTED_FROM = {name for method in METHODS.values() for name in method.needs}  # their pictures are kept
QUICK = ("plain", "single_line", "beyondfacial")
GROUPS = {
    "main": [method.name for method in MAIN],
    "table": [method.name for method in TABLE],
    "research": ["plain", "beyondfacial", *(method.name for method in RESEARCH)],
    "frontier": ["plain", "beyondfacial", *(method.name for method in FRONTIER)],
    "cases": ["plain", "beyondfacial", *(method.name for method in CASES)],
    "fast": [method.name for method in FAST_METHODS],
}


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
