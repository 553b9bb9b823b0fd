"""Decides, after a batch is sampled, which pictures lack something that the request asked for.

A picture without the requested person always comes with a warning that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..method.head_refinement import REFINE_AT
from ..settings import FOLDS, MAX_PERSONS
from .plan import IdentityLine, Plan
from .report import Batch

COUNTS = dict(zip(range(2, MAX_PERSONS + 1), ("two", "three", "four"), strict=True))
NOT_ACTED, NOT_REFINED = "the identity never acted", "the head was not refined"


@dataclass(frozen=True)
class Shortfall:
    """One thing that a picture lacks.

    note: for the infotext, without comma and colon.
    sentence: why, and what to do; a template for `tell`; "" if there is a warning already.
    """

    note: str
    sentence: str = ""

    def tell(self, pictures: Sequence[int], of: int) -> str:
        """The sentence for these pictures of a request (numbered from 0)."""
        several, listed = len(pictures) > 1, " and ".join(", ".join(str(i + 1) for i in pictures).rsplit(", ", 1))
        return self.sentence.format(
            pictures=f"picture{'s' * several} {listed} of {of}" if of > 1 else "the picture",
            were="were" if several else "was",
            they="they" if several else "it",
            their_heads="their heads were" if several else "its head was",
        )


def find_shortfall(plan: Plan, batch: Batch, image: int, is_interrupted: bool = False) -> Shortfall | None:
    """What a picture of a finished batch lacks; None if nothing."""
    return why_nowhere(plan, batch, is_interrupted) or why_not_in_picture(plan, batch, image, is_interrupted)


def why_nowhere(plan: Plan, batch: Batch, is_interrupted: bool) -> Shortfall | None:
    """Why the identity acted in no picture of the batch (its settings or another extension); None if it did act."""
    if batch.acted is not None and bool(batch.acted.any()):
        return None
    p, weight = plan.parameters, max((line.weight for line in plan.lines), default=0.0)
    cases = [
        (value == 0, f'"{key}" is 0, so the identity never acted; set it above 0.')
        for key, value in (("weight", weight), ("mask_strength", p.mask_strength), ("rho", p.rho))
    ]
    cases += [
        (batch.explained, ""),
        (
            is_interrupted and not batch.had_guidance,
            "The sampling was interrupted before the identity acted; let it run longer.",
        ),
        (
            batch.steps == 0 or (batch.in_window and batch.acted is None),
            "Another extension or script took the sampling over, so the identity never acted; switch it off for this "
            "run.",
        ),
        (
            not batch.in_window,
            f'"start" {p.start:g} to "stop" {p.stop:g} holds none of the {batch.steps} noise levels that were '
            "sampled, so the identity never acted; widen it, or take more steps.",
        ),
        (
            not batch.had_guidance,
            "At a CFG scale of 0 neither prompt nor identity counts; set the CFG scale to 1 or more.",
        ),
    ]
    return next((Shortfall(NOT_ACTED, sentence) for holds, sentence in cases if holds), None)


def why_not_in_picture(plan: Plan, batch: Batch, image: int, is_interrupted: bool) -> Shortfall | None:
    """What one picture lacks in a batch in which the identity could act."""
    if not batch.acted_on(image):
        return Shortfall(
            NOT_ACTED,
            "No head was found while {pictures} {were} made, so {they} came out without the person; name the "
            'person in the prompt, put the prompt\'s word for them into "subject" (on the page in the fold '
            f'"{FOLDS["face"]}"), or use a larger size.',
        )
    without = [line for line in plan.drawn if not batch.found_head(line.name, image)]
    if not plan.parameters.refine_head or not without or is_interrupted:
        return None
    if not plan.refines:
        return Shortfall(
            NOT_REFINED,
            'With "mask_mode" whole no head is refined; set it to adaptive, or switch "refine_head" off.',
        )
    if not batch.looked_for_heads:
        late = f'None of the steps between "start" and "stop" ends below noise level {max(REFINE_AT):g}'
        return Shortfall(
            NOT_REFINED,
            f'{late}, so no head was refined; take more steps, widen "stop", or switch "refine_head" off.',
        )
    return why_no_face(plan, batch, without)


def why_no_face(plan: Plan, batch: Batch, without: Sequence[IdentityLine]) -> Shortfall:
    """What a picture lacks in which faces were searched for, and none was found for some lines."""
    if not batch.heads_found:  # the search failed, and has warned already
        return Shortfall(NOT_REFINED)
    if len(without) < len(plan.drawn):
        given, found = len(plan.drawn), len(plan.drawn) - len(without)
        names = " and ".join(line.label for line in without).replace("{", "{{").replace("}", "}}")
        return Shortfall(
            f"no face for {' and '.join(line.name for line in without)}",
            f"Only {found} of {given} people {'was' if found == 1 else 'were'} found in {{pictures}}, so {names} "
            f"{'is' if len(without) == 1 else 'are'} missing; try another seed or a wider picture, or begin the "
            f'prompt with "{COUNTS[given]} people".',
        )
    return Shortfall(
        NOT_REFINED,
        "No face could be found while {pictures} {were} made, so {their_heads} not refined; let the prompt show the "
        'face, or switch "refine_head" off.',
    )
