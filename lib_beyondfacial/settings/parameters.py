"""The settings that the method reads: how the lines are fused; nothing about the person."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import setting


@dataclass(frozen=True, kw_only=True)
class MethodParameters:
    """The method's parameters (docs/method.md); not checked here, but in Settings.

    start, stop: fractions of the schedule; the identity line acts in [start, stop). The parameters of section "expert"
    are in the UI's last fold.
    """

    weight: float = setting(
        1.0, "Likeness", "Higher: more the person (of two the first), less the prompt.",
        0, 3, 0.05, axis=True,
    )  # fmt: skip
    start: float = setting(
        0.4, "Start", "Share of the steps before the person comes in. Higher: more of the plain picture stays.",
        0, 1, 0.01, section="mask", axis=True,
    )  # fmt: skip
    stop: float = setting(
        1.0, "Stop", "Share of the steps after which the person rests. Lower: the prompt alone ends the picture.",
        0, 1, 0.01, section="mask", axis=True,
    )  # fmt: skip
    mask_strength: float = setting(
        1.0, "Mask strength", "Lower: the person fades; at 0 the picture is the plain one.",
        0, 1, 0.05, section="mask", axis=True,
    )  # fmt: skip
    mask_softness: float = setting(
        0.5, "Mask softness", "Higher: a wider and softer edge around the head.", 0, 1, 0.05, section="mask"
    )
    idap_strength: float = setting(
        0.0, "Start identity", "Higher: more of the photo's face in the first noise; the scene changes with it.",
        0, 1, 0.05, section="mask", axis=True,
    )  # fmt: skip
    hires_pass: str = setting(
        "both",
        "Hires passes",
        "In which of hires fix's two passes the person acts.",
        choices=("both", "first", "second"),
        section="mask",
    )
    refine_head: bool = setting(
        True,
        "Refine head",
        "Redraws the head once, enlarged: more like the person. From 20 steps on it also saves time.",
        axis=True,
    )
    mask_mode: str = setting(
        "adaptive",
        "Mask mode",
        "adaptive: the person acts where the head is; whole: everywhere, as a single line does.",
        choices=("adaptive", "whole"),
        section="expert",
    )
    refine_size: int = setting(
        0,
        "Refine size",
        "Pixels a side at which the head is redrawn. 0: the size that the model was trained on; others rarely work.",
        0,
        2048,
        64,
        section="expert",
    )
    refine_weight: float = setting(
        1.3, "Refine likeness", "Multiplies Likeness where the head is redrawn. Higher: more the person.",
        0, 3, 0.05, section="expert", axis=True,
    )  # fmt: skip
    rho: float = setting(
        1.0,
        "Damping rho",
        "Scales what the person adds (eq. 8). Higher: stronger, at last burnt.",
        0,
        2,
        0.05,
        section="expert",
    )
    stride: int = setting(
        1,
        "Stride",
        "The identity is computed at every k-th step. Higher: faster, less like the person.",
        1,
        8,
        1,
        section="expert",
    )
    decision_reference: str = setting(
        "semantic",
        "Decision reference",
        "The prediction that the identity line's is compared with (eq. 4).",
        choices=("semantic", "uncond"),
        section="expert",
    )
    smoothing: float = setting(
        0.5,
        "Smoothing",
        "How slowly the mask follows from step to step (eq. 7). Higher: steadier, later.",
        0,
        0.99,
        0.01,
        section="expert",
    )
    style: float = setting(
        0.0,
        "Style alignment",
        "Higher: the head takes more of the scene's colours (eq. 9).",
        0,
        1,
        0.05,
        section="expert",
    )
