"""Emphasis, chunks, CLIP skip."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("plain", [["plain", 1.0]]),
        ("", [["", 1.0]]),
        ("a (b) c", [["a ", 1.0], ["b", 1.1], [" c", 1.0]]),
        ("((a))", [["a", 1.21]]),
        ("[a]", [["a", 1 / 1.1]]),
        ("(a:1.5)", [["a", 1.5]]),
        ("(a (b:2):0.5)", [["a ", 0.5], ["b", 1.0]]),
        (r"\(a\)", [["(a)", 1.0]]),
        ("(a", [["a", 1.1]]),
        ("a) b:c", [["a) b:c", 1.0]]),
        ("a BREAK b", [["a", 1.0], ["BREAK", -1], ["b", 1.0]]),
    ],
)
def test_emphasis(host: Any, text: str, want: list) -> None:
    from modules.prompt_parser import parse_prompt_attention

    got = parse_prompt_attention(text)
    assert [t for t, _ in got] == [t for t, _ in want]
    assert [w for _, w in got] == pytest.approx([w for _, w in want])


def test_tokens_are_filled_with_eos(host: Any) -> None:
    from modules import shared

    encoder = shared.sd_model.cond_stage_model
    (chunk,), count = encoder.tokenize_line("photo face")
    vocabulary = encoder.tokenizer.get_vocab()
    assert chunk.tokens == [encoder.id_start, vocabulary["photo</w>"], vocabulary["face</w>"], *[encoder.id_end] * 74]
    assert count == 2
    chunks, count = encoder.tokenize_line("photo " * 76 + "BREAK (face:1.3)")
    assert (len(chunks), count) == (3, 151)
    assert chunks[2].multipliers[:3] == [1.0, 1.3, 1.0]
    assert encoder(["photo", "photo " * 76]).shape == (2, 154, 64)


def test_encoder_equals_transformers_own(host: Any) -> None:
    from modules import shared

    encoder = shared.sd_model.cond_stage_model
    (chunk,), _ = encoder.tokenize_line("photo of a face")
    with torch.no_grad():
        out = encoder.wrapped.transformer(torch.tensor([chunk.tokens]), output_hidden_states=True)
        assert torch.allclose(
            shared.sd_model.get_learned_conditioning(["photo of a face"]), out.last_hidden_state, atol=1e-5
        )
        shared.opts.CLIP_stop_at_last_layers = 2
        skipped = encoder.wrapped.transformer.text_model.final_layer_norm(out.hidden_states[-2])
        assert torch.allclose(shared.sd_model.get_learned_conditioning(["photo of a face"]), skipped, atol=1e-5)
    shared.opts.CLIP_stop_at_last_layers = 1


def test_emphasis_scales_tokens_and_keeps_the_mean(host: Any) -> None:
    from modules import shared

    plain, heavy = (shared.sd_model.get_learned_conditioning([text])[0] for text in ("a face", "a (face:2)"))
    assert heavy.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)
    ratio = (heavy / plain).median(dim=1).values
    assert (ratio[2] / ratio[1]).item() == pytest.approx(2, rel=1e-3)
