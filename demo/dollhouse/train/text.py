"""The text side: a byte-level BPE that makes every word of the world one token, and a two-layer CLIP text model.

`python -m demo.dollhouse.train.text` writes the tokenizer folder; the text model's weights are trained with the UNet.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from demo.dollhouse.train.common import WEIGHTS
from demo.dollhouse.world import vocabulary

FOLDER = WEIGHTS / "clip"
START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH = 128


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes that CLIP's BPE uses, in its order."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return [chr(b) for b in kept] + [chr(256 + i) for i in range(len(rest))]


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merge the most frequent pair (ties: alphabetical) until every word is one token."""
    split = {word: (*word[:-1], word[-1] + "</w>") for word in words}
    merges = []
    while any(len(parts) > 1 for parts in split.values()):
        pairs = Counter(pair for parts in split.values() for pair in zip(parts, parts[1:], strict=False))
        best = max(sorted(pairs), key=pairs.__getitem__)
        merges.append(best)
        for word, parts in split.items():
            merged, i = [], 0
            while i < len(parts):
                both = parts[i : i + 2] == best
                merged.append("".join(best) if both else parts[i])
                i += 2 if both else 1
            split[word] = tuple(merged)
    return merges


def write_tokenizer(folder: Path = FOLDER) -> CLIPTextConfig:
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = byte_alphabet()
    merges = learn_merges([w for w in vocabulary() if w.isalpha()])
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges), START, END]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    config = CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        bos_token_id=vocab[START],
        eos_token_id=vocab[END],
        pad_token_id=vocab[END],
    )
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(m) for m in merges)]) + "\n", encoding="utf-8"
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    tokenizer = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "errors": "replace", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1))
    fields = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_act",
    )
    fields += ("max_position_embeddings", "layer_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id")
    settings = {
        "model_type": "clip_text_model",
        "projection_dim": WIDTH,
        **{name: getattr(config, name) for name in fields},
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    return config


def make_text_model(folder: Path = FOLDER) -> CLIPTextModel:
    model = CLIPTextModel(CLIPTextConfig.from_pretrained(folder))
    with torch.no_grad():
        # Hosts divide by the mean of the whole output when a prompt is weighted: keep that mean away from zero.
        model.text_model.final_layer_norm.bias.normal_(0.2, 0.1)
        model.text_model.embeddings.token_embedding.weight.normal_(0, 0.3)
        model.text_model.embeddings.position_embedding.weight.normal_(0, 0.1)
    return model


def tokenize(texts: list[str], tokenizer: CLIPTokenizer) -> Tensor:
    """(B, 77) ids, filled with the end token, as the hosts do."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids


if __name__ == "__main__":
    print(write_tokenizer().vocab_size, "tokens")
    print(
        CLIPTokenizer.from_pretrained(FOLDER).tokenize(
            "photo of a man running in the forest, full body shot, close-up of a face"
        )
    )
