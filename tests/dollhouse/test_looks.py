"""What teaches the models a head's looks: its words, its share of the loss, and a vocabulary that has grown."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from demo.dollhouse.train import diffusion
from demo.dollhouse.train.adapter import TOKENS, looks_words, words_of
from demo.dollhouse.train.text import WordTokenizer, write_tokenizer
from demo.dollhouse.world import SKIN_WORDS, Picture, Truth, caption, hair_words, random_identity, skin_words

from .conftest import make_place

PERSON = replace(
    random_identity(np.random.default_rng(0)),
    skin=0.3, hair_colour="red", hair_style="long", eyes="green", glasses=False, beard=False, gender="woman",
)  # fmt: skip


@pytest.fixture
def place(tmp_path):
    place = make_place(tmp_path)
    write_tokenizer(place.clip)
    return place


@pytest.mark.parametrize(
    ("changes", "text", "ends"),
    [
        ({}, "a woman with long red hair and light skin and green eyes", ["hair", "skin", "eyes", "woman"]),
        (
            {"hair_style": "bald", "gender": "man", "beard": True, "glasses": True},
            "a man with glasses and beard and bald head and light skin and green eyes",
            ["head", "skin", "eyes", "beard"],
        ),
    ],
)
def test_all_looks_in_words_and_where_each_ends(changes, text, ends):
    found, where = looks_words(replace(PERSON, **changes))
    assert found == text
    assert [found.split()[i] for i in where] == ends


@pytest.mark.parametrize(
    ("tone", "word"), [(0, "pale"), (0.2499, "pale"), (0.25, "light"), (0.74, "tan"), (1, "dark")]
)
def test_a_skin_word_names_a_quarter_of_the_tones(tone, word):
    assert skin_words(replace(PERSON, skin=tone)) == f"{word} skin"


def test_hair_is_named_by_what_is_asked_of_it():
    assert hair_words(PERSON, has_colour=False) == "long hair"
    assert hair_words(PERSON, has_style=False) == "red hair"
    assert hair_words(PERSON, False, False) == ""
    assert hair_words(replace(PERSON, hair_style="bald"), has_style=False) == "bald head"


def test_captions_name_all_looks_or_none():
    picture, rng = Picture(PERSON, "beach", "waving", "full"), np.random.default_rng(1)
    named = caption(picture, rng, shot_chance=1, looks_chance=1)
    assert all(words in named for words in ("long red hair", "light skin", "green eyes"))
    silent = " ".join(caption(picture, rng, looks_chance=0) for _ in range(20))
    assert not any(word in silent for word in ("hair", "eyes", *SKIN_WORDS, "face"))


def test_identity_tokens_start_as_the_text_models_outputs(place):
    torch.manual_seed(0)
    model, tokenizer = diffusion.TextToLatent(place), WordTokenizer(place.clip)
    found = words_of(model, tokenizer, [PERSON, replace(PERSON, beard=True)])
    assert found.shape == (2, TOKENS, 128)
    with torch.no_grad():
        hair = model.cond(tokenizer(["a woman with long red hair"]))[0, 6]
        beard = model.cond(tokenizer(["a woman with beard"]))[0, 4]
    assert torch.allclose(found[0, 0], hair, atol=1e-5)
    assert torch.allclose(found[1, 3], beard, atol=1e-5)


SHARES = diffusion.HEAD_SHARE + diffusion.EYES_SHARE + diffusion.MOUTH_SHARE


def test_head_eyes_and_mouth_have_their_share_however_small():
    def truth(scale: float) -> Truth:
        marks = np.array([[7, 8], [13, 8], [10, 10], [8, 13], [12, 13]], float)
        return Truth((4 * scale, 4 * scale, 16 * scale, 16 * scale), marks * scale, 6 * scale)

    weights = diffusion.head_weights([(None, truth(4)), (None, truth(8)), (None, truth(0.1))], 192, 24)
    # 192 px, 24 latent px: the box of 48 px is 6 x 6 latent px; the eyes' box of 40 x 16 px lies on 6 x 2.
    assert weights[0, 20, 20] == 1
    for one in weights:
        assert float(one.sum()) == pytest.approx(576 * (1 + SHARES), rel=1e-4)
    assert float(weights[0, 2, 2]) == pytest.approx(1 + diffusion.HEAD_SHARE * 576 / 36)


def test_two_heads_of_a_wide_picture_have_a_share_each():
    marks = np.array([[7, 8], [13, 8], [10, 10], [8, 13], [12, 13]], float) * 4
    right = Truth((304, 16, 352, 64), marks + (288, 0), 24)
    weights = diffusion.head_weights([(None, Truth((16, 16, 64, 64), marks, 24, second=right))], 192, 24, 48)
    assert weights.shape == (1, 24, 48)
    assert float(weights.sum()) == pytest.approx(24 * 48 * (1 + 2 * SHARES), rel=1e-4)
    assert torch.equal(weights[0, :, :12], weights[0, :, 36:])


def test_a_head_outside_the_picture_weighs_nothing():
    outside = Truth((-50, -50, -10, -10), np.full((5, 2), -30.0), 20)
    assert torch.equal(diffusion.head_weights([(None, outside)], 192, 24), torch.ones(1, 24, 24))


def test_a_grown_vocabulary_keeps_what_its_words_had_learnt(place, tmp_path):
    result = json.loads((place.clip / "vocab.json").read_text(encoding="utf-8"))
    old = [token for token in result if "skin" not in token]
    reference = tmp_path / "vocab_first.json"
    reference.write_text(json.dumps({token: i for i, token in enumerate(old)}), encoding="utf-8")
    rows = diffusion.known_tokens(place.clip / "vocab.json", reference)
    model, table = diffusion.TextToLatent(place), "cond_stage_model.transformer.text_model.embeddings.token_embedding"
    before = model.text.text_model.embeddings.token_embedding.weight.detach().clone()
    state = {f"cond_stage_model.transformer.{k}": v for k, v in model.text.state_dict().items()}
    learnt = torch.randn(len(old), 128, generator=torch.Generator().manual_seed(1))
    diffusion.begin_with(model, state | {f"{table}.weight": learnt}, rows)
    after = model.text.text_model.embeddings.token_embedding.weight
    assert torch.equal(after[result["hair</w>"]], learnt[old.index("hair</w>")])
    assert torch.equal(after[result["skin</w>"]], before[result["skin</w>"]])
