"""All texts of one sampling pass, encoded once by the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..unet.probe import Probe
from ..unet.sites import AttentionSite
from . import prompts
from .host import BatchImage, Cond, Host
from .plan import IdentityLine, Plan

HEAD = "head words"  # the probe's group for every line; the lines' own groups bear their names


@dataclass(frozen=True, eq=False)
class EncodedPrompts:
    """What a pass feeds to the UNet beside the host's own conds.

    probe: reads the head words, and each line's subject words.
    lines: by line, its own prompts, as prompt editing ends them; a line without an entry has the semantic line's.
    refine: by line, the head refinement's prompts; refine_uncond: its negative ones. Empty where nothing is refined.
    """

    probe: Probe
    lines: Mapping[str, Cond]
    refine: Mapping[str, Cond]
    refine_uncond: Cond | None


def encode_pass(
    plan: Plan, host: Host, images: Sequence[BatchImage], sites: Sequence[AttentionSite]
) -> EncodedPrompts:
    """Encode every text of the pass. Before the UNet is loaded: the text encoder could push it out."""
    texts, size = [image.prompt for image in images], host.picture_size
    changed = {line.name: prompts.line_prompts(line, texts) for line in plan.lines}
    line_texts = {name: host.prompts_at_end(of_line) for name, of_line in changed.items() if of_line is not None}
    lines = {name: host.encode_prompts(of_line, size) for name, of_line in line_texts.items()}
    probe = make_probe(plan.lines, host, texts, sites)
    if not plan.refines:
        return EncodedPrompts(probe, lines, {}, None)
    side = plan.refine_size(host.native_side)
    refine = {
        name: host.encode_prompts(prompts.refine_prompts(of_line or texts, host.prompts_at_end), (side, side))
        for name, of_line in changed.items()
    }
    negatives = host.prompts_at_end([image.negative_prompt for image in images])
    return EncodedPrompts(probe, lines, refine, host.encode_prompts(negatives, (side, side)))


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
