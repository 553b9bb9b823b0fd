"""The settings that the method itself reads: how the two lines are fused, whoever the person is."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import setting


@dataclass(frozen=True, kw_only=True)
class MethodParameters:
    """The method's parameters (docs/method.md), not checked here: Settings checks what a user gives.

    start and stop are fractions of the schedule, half-open; the identity line acts in between. The expert ones are
    set by the API and in the UI's last fold alone.
    """

    weight: float = setting(
        1.0, "Identity weight", "Strength of the adapter in the identity line.", 0, 3, 0.05, axis=True
    )
    start: float = setting(
        0.0, "Start", "Fraction of the schedule where the identity line begins.", 0, 1, 0.01, axis=True
    )
    stop: float = setting(1.0, "Stop", "Fraction of the schedule where the identity line ends.", 0, 1, 0.01, axis=True)
    mask_strength: float = setting(
        1.0, "Mask strength", "Scales the mask; 0 is the plain picture.", 0, 1, 0.05, axis=True
    )
    mask_softness: float = setting(0.5, "Mask softness", "Width of the soft edge of the mask.", 0, 1, 0.05)
    idap_strength: float = setting(
        0.5, "Start identity", "How much of the face enters the noise.", 0, 1, 0.05, axis=True
    )
    refine_head: bool = setting(
        True, "Refine head", "Redraws a small head once, as a close-up, and puts it back.", axis=True
    )
    mask_mode: str = setting(
        "adaptive",
        "Mask mode",
        "adaptive: where the identity decides; whole: everywhere.",
        choices=("adaptive", "whole"),
        section="expert",
    )
    refine_size: int = setting(
        0,
        "Refine size",
        "Side in pixels of the enlarged head; 0: the size that the model was trained on.",
        0,
        2048,
        64,
        section="expert",
    )
    rho: float = setting(1.0, "Damping rho", "Scales what is added (eq. 8).", 0, 2, 0.05, section="expert")
    stride: int = setting(1, "Stride", "Evaluate the identity line at every k-th step.", 1, 8, 1, section="expert")
    decision_reference: str = setting(
        "semantic",
        "Decision reference",
        "The prediction that the identity line's is measured from (eq. 4).",
        choices=("semantic", "uncond"),
        section="expert",
    )
    smoothing: float = setting(
        0.5, "Smoothing", "How slowly the mask follows (eq. 7).", 0, 0.99, 0.01, section="expert"
    )
    style: float = setting(
        0.0, "Style alignment", "Pulls to the scene's colours (eq. 9).", 0, 1, 0.05, section="expert"
    )
