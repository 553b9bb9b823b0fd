"""Kept records: found again under the same circumstances only, whole after a kill, packed to the same bytes."""

from dataclasses import replace

import numpy as np
import pytest

from bench import records
from bench.methods import METHODS, QUICK, TABLE, parse_method
from bench.painter import Sampling
from bench.pairs import make_batches, make_pairs
from bench.records import Store, key_of, read_records, write_records
from demo.dollhouse.world import Picture

ROWS = [{"pair": i, "batch": [0, 1], "similarity": 0.1 * i, "box": None} for i in range(2)]


def test_cache_key_depends_on_everything_that_changes_pictures(monkeypatch):
    method, sampling = METHODS["beyondfacial"], Sampling()
    keys = [
        key_of(method, sampling, "cpu"),
        key_of(replace(method, settings={"weight": 2.5}), sampling, "cpu"),
        key_of(replace(method, alternative="no_decision"), sampling, "cpu"),
        key_of(method, replace(sampling, steps=7), "cpu"),
        key_of(method, sampling, "cuda"),
        key_of(replace(method, after="plain"), sampling, "cpu"),
        key_of(replace(method, sampling={"steps": 8}), sampling, "cpu"),
    ]
    monkeypatch.setattr(records, "hash_weights", lambda: "others")
    keys.append(key_of(method, sampling, "cpu"))
    monkeypatch.setattr(records, "hash_sources", lambda places: "others")
    keys.append(key_of(method, sampling, "cpu"))
    assert len(set(keys)) == len(keys)
    default = replace(method, name="another", says="", settings={"rho": 1.0})
    monkeypatch.undo()
    assert key_of(default, sampling, "cpu") == keys[0]


def test_what_sources_do_counts_and_how_they_read_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "REPOSITORY", tmp_path)
    (tmp_path / "unit").mkdir()
    file = tmp_path / "unit" / "a.py"

    def hashed(text):
        file.write_text(text)
        records.hash_sources.cache_clear()
        return records.hash_sources(("unit",))

    plain = hashed("def f(x):\n    return x + 1\n")
    assert hashed('"""About."""\n\n\ndef f(x):\n    """Adds."""\n    # one\n    return (x + 1)\n') == plain
    assert hashed("def f(x):\n    return x + 2\n") != plain
    records.hash_sources.cache_clear()


def test_incomplete_record_is_computed_again(tmp_path):
    path = tmp_path / "split" / "m_0.jsonl"
    Store(path).add(ROWS)
    assert Store(path).has([0, 1])
    path.write_bytes(path.read_bytes()[:-9])
    cut = Store(path)
    assert not cut.has([0, 1])
    assert cut.by_pair == {0: ROWS[0]}
    cut.add([ROWS[1]])
    assert Store(path).by_pair == {0: ROWS[0], 1: ROWS[1]}


def test_other_company_is_another_picture(tmp_path):
    store = Store(tmp_path / "m.jsonl")
    store.add(ROWS)
    assert not store.has([0])
    store.add([{**ROWS[0], "batch": [0]}])
    assert Store(store.path).has([0])


def test_packed_records_come_back_and_are_the_same_bytes(tmp_path):
    by_method = {"plain": ROWS, "beyondfacial": list(reversed(ROWS))}
    for name in "ab":
        write_records(tmp_path / name, by_method)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_records(tmp_path / "a") == by_method


def test_methods_of_the_table_are_the_issues_own():
    asked = (
        "plain single_line single_line_late saliency_only oracle_mask beyondfacial detailer late_detailer refine_only"
    )
    asked += " minus_attention minus_decision minus_smoothing plus_start_identity"
    assert set(asked.split()) <= {method.name for method in TABLE}
    assert set(QUICK) <= METHODS.keys()
    assert METHODS["plain"].resolved() is None
    assert METHODS["minus_smoothing"].resolved() == METHODS["beyondfacial"].resolved() | {"smoothing": 0.0}


def test_methods_from_the_command_line():
    method = parse_method("strong@no_decision:weight=3,mask_mode=whole,show_mask=false")
    assert (method.name, method.alternative) == ("strong", "no_decision")
    assert method.settings == {"weight": 3, "mask_mode": "whole", "show_mask": False}
    assert parse_method("bare").settings == {}
    with pytest.raises(ValueError, match="wieght"):
        parse_method("x:wieght=3")


def test_the_splits_share_no_person_seed_or_wording():
    tuning, heldout = make_pairs(40), make_pairs(40, "heldout")
    assert not {p.seed for p in tuning} & {p.seed for p in heldout}
    assert not {p.person for p in tuning} & {p.person for p in heldout}
    assert 10 < sum(p.picture == Picture(p.person, p.picture.scene, p.picture.action, "full") for p in heldout) < 30
    assert not {p.prompt for p in tuning} & {p.prompt for p in heldout}
    assert all(p.prompt.endswith(", full body") and p.prompt.startswith("picture of a ") for p in heldout)
    assert [p.prompt for p in make_pairs(7, "heldout")] == [p.prompt for p in heldout[:7]]
    assert tuning[0].prompt == "photo of a smiling woman holding a ball waving at night, full body shot"


def test_batches_hold_every_pair_once_and_one_person_word_each():
    pairs = make_pairs(30, "heldout")
    batches = make_batches(pairs, 4)
    assert np.array_equal(sorted(p.index for batch in batches for p in batch), np.arange(30))
    assert all(len({p.word for p in batch}) == 1 and len(batch) <= 4 for batch in batches)
    longer = [[p.index for p in batch] for batch in make_batches(make_pairs(60, "heldout"), 4)]
    assert all([p.index for p in batch] in longer for batch in batches if len(batch) == 4)
