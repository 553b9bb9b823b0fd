"""Prompts -> conds as A1111 makes them: weights, AND, chunks of 75 tokens, CLIP skip. The names are those of its
`prompt_parser` and `sd_hijack_clip`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

RE_EMPHASIS = re.compile(r"\\.|[(\[]|:\s*[+-]?[.\d]+\s*\)|[)\]]|[^\\()\[\]:]+|[\\:]", re.S)
RE_CLOSING = re.compile(r":[^)]*\)|\)")
RE_ESCAPED = re.compile(r"\\.", re.S)
RE_BREAK = re.compile(r"\s*\bBREAK\b\s*")
RE_WEIGHTED = re.compile(r"(.*?)(?:\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+)))?\s*", re.S)


class SdConditioning(list):
    """Prompts, with the picture's size for the models that want it."""

    def __init__(
        self,
        prompts: list[str],
        is_negative_prompt: bool = False,
        width: Any = None,
        height: Any = None,
        copy_from: Any = None,
    ):
        super().__init__(prompts)
        source = copy_from if copy_from is not None else prompts
        self.is_negative_prompt = is_negative_prompt or getattr(source, "is_negative_prompt", False)
        self.width, self.height = width or getattr(source, "width", None), height or getattr(source, "height", None)


class ScheduledPromptConditioning(NamedTuple):
    end_at_step: int
    cond: Tensor


@dataclass
class ComposableScheduledPromptConditioning:
    schedules: list[ScheduledPromptConditioning]
    weight: float = 1.0


@dataclass
class MulticondLearnedConditioning:
    shape: tuple[int]
    batch: list[list[ComposableScheduledPromptConditioning]]


def get_learned_conditioning(
    model: Any, prompts: list[str], steps: int, *_old: Any
) -> list[list[ScheduledPromptConditioning]]:
    """One schedule a prompt, of one entry (prompt editing is left to the big hosts); each is encoded alone."""
    encoded = {
        p: model.get_learned_conditioning(SdConditioning([p], copy_from=prompts))[0] for p in dict.fromkeys(prompts)
    }
    return [[ScheduledPromptConditioning(steps, encoded[prompt])] for prompt in prompts]


def get_multicond_learned_conditioning(
    model: Any, prompts: list[str], steps: int, *_old: Any
) -> MulticondLearnedConditioning:
    """As above for prompts of the form "a AND b :0.5"."""
    parts = [[RE_WEIGHTED.fullmatch(part).groups() for part in re.split(r"\bAND\b", prompt)] for prompt in prompts]  # type: ignore[union-attr]
    flat = SdConditioning([text for row in parts for text, _ in row], copy_from=prompts)
    schedules = iter(get_learned_conditioning(model, flat, steps))
    batch = [
        [ComposableScheduledPromptConditioning(next(schedules), 1.0 if w is None else float(w)) for _, w in row]
        for row in parts
    ]
    return MulticondLearnedConditioning((len(prompts),), batch)


def stack_conds(conds: list[Tensor]) -> Tensor:
    """(rows, tokens, C); a shorter cond is filled up with its last token."""
    length = max(len(cond) for cond in conds)
    return torch.stack([torch.cat([cond, cond[-1:].expand(length - len(cond), -1)]) for cond in conds])


def _at_step(schedule: list[ScheduledPromptConditioning], step: int) -> Tensor:
    return next((entry.cond for entry in schedule if step <= entry.end_at_step), schedule[0].cond)


def reconstruct_cond_batch(c: list[list[ScheduledPromptConditioning]], current_step: int) -> Tensor:
    return stack_conds([_at_step(schedule, current_step) for schedule in c])


def reconstruct_multicond_batch(
    c: MulticondLearnedConditioning, current_step: int
) -> tuple[list[list[tuple[int, float]]], Tensor]:
    """Per picture the (row, weight) of its parts, and the conds of all rows."""
    conds: list[Tensor] = []
    conds_list = []
    for parts in c.batch:
        conds_list.append([(len(conds) + i, part.weight) for i, part in enumerate(parts)])
        conds += [_at_step(part.schedules, current_step) for part in parts]
    return conds_list, stack_conds(conds)


def _merge(pieces: list[list]) -> list[list]:
    merged: list[list] = []
    for text, weight in pieces or [["", 1.0]]:
        if merged and merged[-1][1] == weight != -1:
            merged[-1][0] += text
        else:
            merged.append([text, weight])
    return merged


def parse_prompt_attention(text: str) -> list[list]:
    """[[text, weight], ...] of "(more), (as given:1.3), [less], \\(literal\\)"; BREAK becomes ["BREAK", -1]."""
    pieces: list[list] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def scale(bracket: str, factor: float) -> None:
        for piece in pieces[opened[bracket].pop() :]:
            piece[1] *= factor

    for token in RE_EMPHASIS.findall(text):
        if token in opened:
            opened[token].append(len(pieces))
        elif token == "]" and opened["["]:
            scale("[", 1 / 1.1)
        elif RE_CLOSING.fullmatch(token) and opened["("]:
            scale("(", 1.1 if token == ")" else float(token[1:-1]))
        elif RE_ESCAPED.fullmatch(token):
            pieces.append([token[1:], 1.0])
        else:
            first, *others = RE_BREAK.split(token)
            pieces += [[first, 1.0], *([p, w] for part in others for p, w in (("BREAK", -1), (part, 1.0)))]
    for bracket, factor in (("(", 1.1), ("[", 1 / 1.1)):
        while opened[bracket]:
            scale(bracket, factor)
    return _merge(pieces)


@dataclass
class PromptChunk:
    tokens: list[int] = field(default_factory=list)
    multipliers: list[float] = field(default_factory=list)
    fixes: list = field(default_factory=list)


class FrozenCLIPEmbedderWithCustomWords(nn.Module):
    """Texts of any length with weights -> (B, 77 * chunks, C)."""

    chunk_length = 75

    def __init__(self, wrapped: nn.Module, options: Any):
        """`options` has the attributes CLIP_stop_at_last_layers and emphasis; they are read at each call."""
        super().__init__()
        self.wrapped, self.tokenizer, self.options = wrapped, wrapped.tokenizer, options
        self.id_start, self.id_end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.id_pad, self.comma_token = self.id_end, self.tokenizer.get_vocab().get(",</w>")

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, truncation=False, add_special_tokens=False)["input_ids"]

    def empty_chunk(self) -> PromptChunk:
        return self._close(PromptChunk())

    def _close(self, chunk: PromptChunk) -> PromptChunk:
        fill = self.chunk_length - len(chunk.tokens)
        tokens = [self.id_start, *chunk.tokens, *[self.id_end] * (fill + 1)]
        return PromptChunk(tokens, [1.0, *chunk.multipliers, *[1.0] * (fill + 1)])

    def tokenize_line(self, line: str) -> tuple[list[PromptChunk], int]:
        """The prompt's chunks of 77 tokens each, and how many tokens it really has."""
        parsed = parse_prompt_attention(line) if self.options.emphasis != "None" else [[line, 1.0]]
        chunks = [PromptChunk()]
        for tokens, (text, weight) in zip(self.tokenize([text for text, _ in parsed]), parsed, strict=True):
            if (text, weight) == ("BREAK", -1):
                chunks.append(PromptChunk())
                continue
            for token in tokens:
                if len(chunks[-1].tokens) == self.chunk_length:
                    chunks.append(PromptChunk())
                chunks[-1].tokens.append(token)
                chunks[-1].multipliers.append(weight)
        count = self.chunk_length * (len(chunks) - 1) + len(chunks[-1].tokens)
        return [self._close(chunk) for chunk in chunks], count

    def process_texts(self, texts: list[str]) -> tuple[list[list[PromptChunk]], int]:
        lines = [self.tokenize_line(text) for text in texts]
        return [chunks for chunks, _ in lines], max(count for _, count in lines)

    def encode_with_transformers(self, tokens: Tensor) -> Tensor:
        skip = self.options.CLIP_stop_at_last_layers
        outputs = self.wrapped.transformer(input_ids=tokens, output_hidden_states=skip > 1)
        if skip > 1:
            return self.wrapped.transformer.text_model.final_layer_norm(outputs.hidden_states[-skip])
        return outputs.last_hidden_state

    def process_tokens(self, tokens: list[list[int]], multipliers: list[list[float]]) -> Tensor:
        z = self.encode_with_transformers(torch.tensor(tokens))
        if self.options.emphasis in {"Original", "No norm"}:
            weighted = z * torch.tensor(multipliers)[..., None]
            z = weighted * (z.mean() / weighted.mean()) if self.options.emphasis == "Original" else weighted
        return z

    def forward(self, texts: list[str]) -> Tensor:
        batch, _ = self.process_texts(texts)
        longest = max(len(chunks) for chunks in batch)
        batch = [chunks + [self.empty_chunk()] * (longest - len(chunks)) for chunks in batch]
        columns = zip(*batch, strict=True)
        return torch.cat(
            [self.process_tokens([c.tokens for c in col], [c.multipliers for c in col]) for col in columns], dim=1
        )
