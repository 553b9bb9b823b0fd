"""All texts of one sampling pass, encoded once by the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..unet.probe import Probe
from ..unet.sites import AttentionSite
from . import prompts
from .host import BatchImage, Cond, Host
from .plan import IdentityLine, Plan

HEAD = "head words"  # the probe's group for all lines; each line's own group has the line's name


@dataclass(frozen=True, eq=False)
class EncodedPrompts:
    """The encoded texts that a pass needs in addition to the host's own conds.

    probe: for the head words and each line's subject words.
    lines: by line, its own prompts after prompt editing; a line without an entry uses the semantic line's.
    refine: the prompts of the head refinement, of the first line's pictures, then of the second's, ...; None without
        refinement. refine_uncond: its negative prompts.
    """

    probe: Probe
    lines: Mapping[str, Cond]
    refine: Cond | None
    refine_uncond: Cond | None


def encode_pass(
    plan: Plan, host: Host, images: Sequence[BatchImage], sites: Sequence[AttentionSite]
) -> EncodedPrompts:
    """Encode all texts of the pass. Call it before the UNet is loaded: the text encoder may need its memory."""
    texts, size = [image.prompt for image in images], host.picture_size
    changed = {line.name: prompts.line_prompts(line, texts) for line in plan.lines}
    line_texts = {name: host.prompts_at_end(of_line) for name, of_line in changed.items() if of_line is not None}
    lines = {name: host.encode_prompts(of_line, size) for name, of_line in line_texts.items()}
    probe = make_probe(plan.lines, host, texts, sites)
    if not plan.refines:
        return EncodedPrompts(probe, lines, None, None)
    side = plan.refine_size(host.native_side)
    crops = []
    for line in plan.lines:
        others = [each.subject for each in plan.lines if each is not line]
        crops += prompts.refine_prompts(changed[line.name] or texts, host.prompts_at_end, others)
    refine = host.encode_prompts(crops, (side, side))
    negatives = host.prompts_at_end([image.negative_prompt for image in images]) * len(plan.lines)
    return EncodedPrompts(probe, lines, refine, host.encode_prompts(negatives, (side, side), is_negative=True))


def make_probe(
    lines: Sequence[IdentityLine], host: Host, texts: Sequence[str], sites: Sequence[AttentionSite]
) -> Probe:
    """The probe for the head words and for each line's subject words, each word encoded by itself."""
    groups = {HEAD: list(prompts.HEAD_WORDS)}
    groups |= {line.name: prompts.subject_words(line.subject, texts) for line in lines}
    asked = {group: words for group, words in groups.items() if words} | {"": list(prompts.REFERENCE_WORDS)}
    encoded = host.encode_words([word for words in asked.values() for word in words])
    contexts = dict(zip(asked, encoded.split([len(words) for words in asked.values()]), strict=True))
    reference = contexts.pop("")
    return Probe(sites, contexts, reference)
