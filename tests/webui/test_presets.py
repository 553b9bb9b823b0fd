"""Presets: built in and the user's own, asked as gradio asks it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.miniwebui import shared
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.settings import METHOD_DEFAULTS, PRESETS, Settings
from lib_beyondfacial.webui import presets
from lib_beyondfacial.webui import presets_ui as page
from lib_beyondfacial.webui.components import MARK


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    return tmp_path


def values_with(**changes):
    return list({**METHOD_DEFAULTS, **changes}.values())


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_sets_how_and_leaves_who(name):
    *updates, note = page.apply(name)
    values = dict(zip(METHOD_DEFAULTS, (update["value"] for update in updates), strict=True))
    assert Settings(**values) == Settings(**PRESETS[name])
    assert not values.keys() & {"enabled", "references", "identity", "adapter", "face_pack", "subject", "id_prompt"}
    chosen, same_note = page.recognise(*values.values())
    assert presets.find_preset(chosen["value"]) == values
    assert same_note == note


def test_custom_changes_nothing():
    assert not any("value" in each for each in page.apply(presets.CUSTOM) + page.apply(None))


def test_a_change_by_hand_is_custom_and_said():
    chosen, note = page.recognise(*values_with(weight=2, refine_head=False, mask_mode="whole"))
    assert chosen["value"] == presets.CUSTOM
    assert "Likeness 2, Refine head off, Mask mode whole" in note
    assert page.recognise(*values_with(weight=1))[0]["value"] == "Default"  # sliders give whole numbers


def test_own_presets_are_kept_in_a_file_of_ours(folder):
    chosen, note, row, _ = page.save_values(" Strong ", page.SAVE, *values_with(weight=1.5, stride=2))
    assert chosen["value"] == "Strong"
    assert chosen["choices"] == [*PRESETS, "Strong", presets.CUSTOM]
    assert "Likeness 1.5, Stride 2" in note
    assert row["visible"] is False
    assert json.loads((folder / "beyondfacial/presets.json").read_text()) == {"Strong": {"weight": 1.5, "stride": 2}}
    assert page.apply("Strong")[0]["value"] == 1.5
    assert page.open_with("Strong")[1]["value"] == "Strong"
    chosen, _, _ = page.delete_named("Strong", *values_with(weight=1.5, stride=2))
    assert chosen["value"] == presets.CUSTOM
    assert "Strong" not in chosen["choices"]


def test_a_preset_is_replaced_by_the_second_press_alone():
    page.save_values("Strong", page.SAVE, *values_with(weight=1.5))
    chosen, note, row, save = page.save_values("Strong", page.SAVE, *values_with(weight=2))
    assert "already" in note
    assert not {"value", "visible"} & {*chosen, *row}
    assert save["value"] == page.REPLACE
    assert presets.find_preset("Strong")["weight"] == 1.5
    *_, save = page.save_values("Strong", page.REPLACE, *values_with(weight=2))
    assert save["value"] == page.SAVE
    assert presets.find_preset("Strong")["weight"] == 2


def test_presets_that_are_saved_at_once_are_all_kept():
    names = [f"preset {n}" for n in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: presets.save_preset(name, METHOD_DEFAULTS), names))
    assert presets.own_presets().keys() == set(names)


def test_what_somebody_wrote_by_hand_is_left_out_and_stays_in_the_file(folder):
    (folder / "beyondfacial").mkdir()
    path = folder / "beyondfacial/presets.json"
    path.write_text('{"A": {"weight": null}, "B": {"weight": 1.5}}')
    assert page.recognise(*values_with(weight=1.5))[0]["value"] == "B"
    assert "A" not in page.preset_names()
    presets.delete_preset("B")
    assert json.loads(path.read_text()) == {"A": {"weight": None}}
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


@pytest.mark.parametrize("name", ["", "Default", "Custom", "a/b"])
def test_names_that_cannot_be_are_said(name, folder):
    chosen, note, *_ = page.save_values(name, page.SAVE, *values_with())
    assert MARK in note
    assert "value" not in chosen
    assert not (folder / "beyondfacial").exists()
    assert MARK in page.delete_named(name, *values_with())[1]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"weight": 99}}', '{"a": {"identity": "x"}}'])
def test_a_broken_file_is_said_and_breaks_nothing(folder, text):
    (folder / "beyondfacial").mkdir()
    (folder / "beyondfacial/presets.json").write_text(text)
    assert page.preset_names()[: len(PRESETS)] == list(PRESETS)
    with pytest.raises(BeyondFacialError):
        presets.find_preset("a")
    assert MARK in page.apply("a")[-1]
    assert page.apply("Default")[0] or True


def test_nothing_is_written_where_others_can_reach_it(folder, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "listen", True, raising=False)
    assert "--beyondfacial-allow-writes" in page.save_values("Strong", page.SAVE, *values_with(weight=1.5))[1]
    assert not (folder / "beyondfacial").exists()
