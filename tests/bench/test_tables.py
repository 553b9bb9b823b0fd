"""Rows, differences and goals of made-up records; which pairs ask for something."""

import json
from pathlib import Path

import pytest

from bench.pairs import make_pairs
from bench.tables import (
    ASKED,
    MARKS,
    OUTSIDE,
    README_ROWS,
    by_area,
    missed_in_words,
    put_into,
    reached,
    row_of,
    to_content,
    to_readme,
)

ROOT = Path(__file__).parents[2]


def made_up(n, **values):
    base = {"shot_accuracy": 1, "scene_accuracy": 1, "action_accuracy": 1, "close_up": 0, "similarity": 0.5}
    base |= {"attribute_accuracy": 0.5, "face_area": 0.05, "unet_rows": 40, "seconds": 1.0, "found": 1}
    base |= {"warnings": 0}
    base |= {"ceiling": 0.54, "attribute_ceiling": 0.9, "flicker": 0.1, "coverage": 0.05}
    base |= dict.fromkeys(ASKED, 1) | dict.fromkeys(OUTSIDE, 0.5) | {"angle_more": 1.0, "angle_photos": 8.0}
    return [{**base, **values, "pair": i, "batch": [i]} for i in range(n)]


def test_the_goals_are_told_as_they_come_out():
    about = {"split": "heldout"}
    rows = {"plain": made_up(40, similarity=0.0, **dict.fromkeys(OUTSIDE))}
    rows |= {"single_line": made_up(40, similarity=0.2), "detailer": made_up(40, similarity=0.4, unet_rows=35)}
    good = to_content(rows | {"beyondfacial": made_up(40)}, about)
    assert len(good["reached"]) == 11
    assert all(goal["reached"] for goal in good["reached"])
    bad = {"similarity": 0.41, "close_up": 1, "shot_accuracy": 0, "expression_accuracy": 0, "outside_change": 3.0}
    bad = to_content(rows | {"beyondfacial": made_up(40, **bad)}, about)
    missed = [goal["goal"] for goal in reached(bad) if not goal["reached"]]
    assert [text.split()[0] for text in missed] == [
        "shot_accuracy", "expression_accuracy", "close_up", "similarity", "change", "similarity",
    ]  # fmt: skip
    dear = to_content(rows | {"beyondfacial": made_up(40, unet_rows=42)}, about)
    assert [goal["value"] for goal in dear["reached"] if not goal["reached"]] == [[0.1, 7.0]]


def test_pairs_that_all_ask_for_something_tell_more_of_it():
    rows = {"plain": made_up(40, **dict.fromkeys(OUTSIDE)), "beyondfacial": made_up(40)}
    without = {**rows, "beyondfacial": made_up(40, object_accuracy=0)}
    beside = to_content(without, {"split": "heldout", "asks": "item"})
    missed = [goal for goal in to_content(rows, {"split": "heldout"}, beside)["reached"] if not goal["reached"]]
    assert [(goal["goal"].split()[0], goal["value"]) for goal in missed] == [("object_accuracy", [-1.0, [-1.0, -1.0]])]


def test_pairs_that_ask_keep_their_numbers():
    some = make_pairs(3, "heldout", "item")
    assert all(pair.asks("item") and pair.picture.item != "none" for pair in some)
    every = make_pairs(some[-1].index + 1, "heldout")
    assert [pair.index for pair in every if pair.asks("item")] == [pair.index for pair in some]
    assert [every[pair.index].prompt for pair in some] == [pair.prompt for pair in some]


def test_what_a_prompt_does_not_ask_for_is_not_counted():
    records = [*made_up(10), *made_up(30, object_accuracy=None)]
    records[0]["object_accuracy"] = 0
    row = row_of("m", records)
    assert (row["n"], row["object_accuracy_n"], row["object_accuracy"]) == (40, 10, 0.9)
    assert "scene_accuracy_n" not in row
    assert row["copying"] == pytest.approx(1 / 8)


def test_the_readmes_table_takes_the_place_of_the_last_one():
    about = {"split": "heldout", "sampling": {"sampler_name": "DDIM", "steps": 20, "cfg_scale": 4.0}}
    rows = {"plain": made_up(40, similarity=0.0), "beyondfacial": made_up(40, similarity=0.27)}
    text = to_readme(to_content(rows, about))
    assert "toy world" in text
    assert "would score 0.54; BeyondFacial reaches 50% of that (50 to 50)" in text
    assert "**not** reached:\n\n- similarity at least 0.92 of the ceiling.\n" in text
    assert "| **BeyondFacial** | 40 | 1.00 | 1.00 | 0.27 (0.27 to 0.27) | 0.50 (0.50 to 0.50) |" in text
    readme = f"before\n{MARKS[0]}old\n{MARKS[1]}\nafter\n"
    assert put_into(readme, text) == f"before\n{MARKS[0]}{text}{MARKS[1]}\nafter\n"
    assert put_into(put_into(readme, text), text) == put_into(readme, text)


def test_readme_has_the_committed_table():
    content = json.loads((ROOT / "bench/results/quality_heldout.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert put_into(readme, to_readme(content)) == readme
    assert all(f"| {name} |" in readme for name in README_ROWS.values())


def test_missed_goals_are_told_with_their_numbers():
    rows = {
        "beyondfacial": {"similarity": 0.86, "outside_change": 2.0, "unet_rows": 30.0},
        "late_detailer": {"similarity": 0.87, "outside_change": 10.0, "unet_rows": 36.0},
    }
    kept = {"goal": "object_accuracy not below plain's by more than 0.03", "value": [-0.01, [-0.032, 0.01]]}
    assert missed_in_words(kept, rows).startswith("things held as often as in the plain picture, at most 0.03 less")
    assert "-0.010 (-0.032 to 0.010), so the interval's end misses by 0.002." in missed_in_words(kept, rows)
    behind = {"goal": "similarity ahead of late_detailer by 0.08, intervals apart", "value": [-0.01, -6]}
    sentence = missed_in_words(behind, rows)
    assert "that has 0.87, BeyondFacial 0.86; but that changes the rest 5.0 times as much, for 20% more" in sentence
    other = {"goal": "similarity at least 0.92 of the ceiling", "value": [0.5, [0.5, 0.5]]}
    assert missed_in_words(other, rows) == "similarity at least 0.92 of the ceiling."


def test_faces_are_binned_by_their_share_of_the_picture():
    bins = by_area([*made_up(3, face_area=0.05), *made_up(2, face_area=0.5), *made_up(4, face_area=0.0)])
    assert [entry["n"] for entry in bins] == [0, 0, 3, 0, 0, 2]
    assert bins[0]["similarity"] is None
    assert bins[2]["similarity"] == pytest.approx(0.5)


def test_differences_are_those_of_the_pairs_that_both_have():
    """As where a run was ended between two methods."""
    longer = made_up(40, similarity=0.9)
    for record in longer[:20]:
        record["similarity"] = 0.7
    content = to_content({"plain": made_up(20), "beyondfacial": longer}, {"split": "heldout"})
    assert [row["n"] for row in content["rows"]] == [20, 40]
    (change,) = [d for d in content["differences"] if d["base"] == "plain"]
    assert change["n"] == 20
    assert change["similarity"] == pytest.approx(0.2)
