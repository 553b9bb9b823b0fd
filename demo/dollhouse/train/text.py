"""The text side: a byte-level BPE that makes every word of the world one token, and a two-layer CLIP text model.

`python -m demo.dollhouse.train.text` writes the tokenizer folder; the text model's weights are trained with the UNet.
Captions are tokenised here by looking their words up, as every word is one token: what the hosts' tokenizer gives
(tested), without it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from demo.dollhouse.train.place import Place, add_place_options, place_of
from demo.dollhouse.world import Picture, caption, vocabulary
from demo.nets.clip import CLIPText

START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH, LENGTH, LAYERS, HEADS = 128, 77, 2, 4


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


def write_tokenizer(folder: Path) -> None:
    """The folder that hosts load tokenizer and text model's shape from."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = byte_alphabet()
    merges = learn_merges([w for w in vocabulary() if w.isalpha()])
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges), START, END]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(m) for m in merges)]) + "\n", encoding="utf-8"
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    tokenizer = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "errors": "replace", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1))
    settings = {
        "model_type": "clip_text_model",
        "projection_dim": WIDTH,
        "vocab_size": len(vocab),
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": LENGTH,
        "layer_norm_eps": 1e-05,
        "bos_token_id": vocab[START],
        "eos_token_id": vocab[END],
        "pad_token_id": vocab[END],
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=1))


def make_text_model(folder: Path) -> CLIPText:
    config = json.loads((folder / "config.json").read_text())
    model = CLIPText(config["vocab_size"], WIDTH, LAYERS, HEADS, LENGTH)
    with torch.no_grad():
        # Hosts divide by the mean of the whole output when a prompt is weighted: keep that mean away from zero.
        model.text_model.final_layer_norm.bias.normal_(0.2, 0.1)
        model.text_model.embeddings.token_embedding.weight.normal_(0, 0.3)
        model.text_model.embeddings.position_embedding.weight.normal_(0, 0.1)
    return model


class WordTokenizer:
    """Captions of the world's closed vocabulary -> ids; a word outside it is an error."""

    def __init__(self, folder: Path):
        self.vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))

    def __call__(self, texts: list[str]) -> Tensor:
        """(B, 77) ids, filled with the end token, as the hosts do."""
        ids = np.full((len(texts), LENGTH), self.vocab[END], np.int64)
        for row, text in zip(ids, texts, strict=True):
            words = [self.vocab[word + "</w>"] for word in re.findall(r"[a-z]+|[^\sa-z]", text.lower())]
            row[: len(words) + 1] = [self.vocab[START], *words]
        return torch.from_numpy(ids)


def caption_ids(
    place: Place, pictures: list[Picture], seed: int, shot_chance: float = 0.8, looks_chance: float = 0.3
) -> Tensor:
    """Several wordings of every picture, tokenised beforehand: (n, captions, 77) ids on the place's device."""
    tokenizer, rng = WordTokenizer(place.clip), np.random.default_rng(seed)
    texts = [caption(p, rng, shot_chance, looks_chance) for p in pictures for _ in range(place.amounts.captions)]
    # Two bytes an id: all wordings of all pictures stay on the device.
    ids = tokenizer(texts).to(torch.int16).unflatten(0, (len(pictures), place.amounts.captions))
    return ids.to(place.device)


def empty_ids(place: Place) -> Tensor:
    return WordTokenizer(place.clip)([""]).to(place.device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_place_options(parser)
    write_tokenizer(place_of(parser.parse_args()).clip)
