"""The training's own tokenizer and text model are those that hosts load the weights into."""

from __future__ import annotations

import numpy as np
import torch

from demo.dollhouse.train.text import WordTokenizer, caption_ids, make_text_model, write_tokenizer
from demo.dollhouse.world import caption, random_picture

from .conftest import make_place


def test_words_are_the_hosts_tokens(tmp_path):
    from transformers import CLIPTokenizer

    write_tokenizer(tmp_path)
    rng = np.random.default_rng(0)
    texts = ["", *(caption(random_picture(rng), rng, looks_chance=0.6) for _ in range(150))]
    reference = CLIPTokenizer.from_pretrained(str(tmp_path))
    wanted = reference(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    assert torch.equal(WordTokenizer(tmp_path)(texts), wanted)


def test_the_text_model_is_the_hosts(tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel

    write_tokenizer(tmp_path)
    torch.manual_seed(0)
    found = make_text_model(tmp_path).eval()
    reference = CLIPTextModel(CLIPTextConfig.from_pretrained(str(tmp_path))).eval()
    state = {k: v for k, v in reference.state_dict().items() if "position_ids" not in k}
    assert {k: v.shape for k, v in found.state_dict().items()} == {k: v.shape for k, v in state.items()}
    reference.load_state_dict(found.state_dict(), strict=False)
    ids = WordTokenizer(tmp_path)(["photo of a man running in the forest, full body shot", "a lady"])
    with torch.no_grad():
        off = (found(ids) - reference(ids).last_hidden_state).abs().max()
    assert off < 1e-5


def test_wordings_are_kept_for_every_picture(tmp_path):
    place = make_place(tmp_path)
    write_tokenizer(place.clip)
    rng = np.random.default_rng(3)
    pictures = [random_picture(rng) for _ in range(6)]
    ids = caption_ids(place, pictures, seed=1)
    assert ids.shape == (6, 2, 77)
    assert torch.equal(ids, caption_ids(place, pictures, seed=1))
    assert not torch.equal(ids, caption_ids(place, pictures, seed=2))
