"""The accordion, built by gradio itself."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from demo.miniwebui import basics
from lib_beyondfacial.settings import BY_KEY, FIELDS, PRESETS, Settings, preset_values
from lib_beyondfacial.webui import components, face_check, folders, ui


@pytest.fixture
def models(models_dir, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(models_dir))
    return models_dir


def build(is_img2img=False):
    with gr.Blocks() as page:
        return page, ui.build(is_img2img)


def test_components_stand_in_the_order_of_the_table(models):
    _, page = build()
    for field, component in zip(FIELDS, page.components, strict=True):
        assert component.value == (None if field.kind == "photos" else field.default), field.key
        for limit in ("minimum", "maximum"):
            assert getattr(component, limit, None) == getattr(field, limit), field.key


def test_untouched_page_means_the_defaults(models):
    _, page = build()
    assert Settings.from_script_args(*(component.value for component in page.components)) == Settings()


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_sets_how_and_leaves_who(models, name):
    """The values are settings that hold together, and the button's components are theirs, in order."""
    values, updates = preset_values(name), ui.preset_updates(name)
    assert [update["value"] for update in updates] == list(values.values())
    assert Settings(**values) == Settings(**PRESETS[name])
    assert not values.keys() & {"enabled", "references", "identity", "adapter", "face_pack", "subject", "id_prompt"}
    blocks, page = build()
    by_key = {field.key: component for field, component in zip(FIELDS, page.components, strict=True)}
    buttons = [b for b in blocks.blocks.values() if isinstance(b, gr.Button) and b.value == name]
    assert [b.elem_id for b in buttons] == [f"beyondfacial_txt2img_preset_{list(PRESETS).index(name)}"]
    clicked = [d for d in blocks.config["dependencies"] if d["outputs"] == [by_key[key]._id for key in values]]
    assert len(clicked) == len(PRESETS)


def test_elem_ids_are_there_and_differ_between_tabs(models):
    pages = [build(False), build(True)]
    ids = [
        block.elem_id
        for page, _ in pages
        for block in page.blocks.values()
        if isinstance(block, gr.components.Component)
    ]
    assert all(ids)
    assert len(ids) == len(set(ids))
    assert sum("txt2img" in each for each in ids) == sum("img2img" in each for each in ids) == len(ids) / 2


def test_nothing_is_remembered_by_label(models):
    blocks, _ = build()
    shown = [block for block in blocks.blocks.values() if getattr(block, "elem_id", None)]
    assert len(shown) > len(FIELDS)
    assert all(block.do_not_save_to_config for block in shown)


def test_building_again_gives_the_same(models):
    first, second = build()[1], build()[1]
    assert [type(a) for a in first.components] == [type(b) for b in second.components]
    assert first.paste_field_names == second.paste_field_names == [f.infotext for f in FIELDS if f.kind != "photos"]


def test_components_are_gradios_own(models):
    blocks, page = build()
    foreign = {type(b).__name__ for b in blocks.blocks.values() if not type(b).__module__.startswith("gradio")}
    assert foreign <= {"InputAccordion"}  # the host's


def test_adapters_and_packs_are_listed_by_name(models):
    assert components.read_names(*ui.LISTED["adapter"]) == ([components.NONE, "fits", "made_for_sdxl", "text"], "")
    assert components.read_names(*ui.LISTED["face_pack"]) == ([components.NONE, "squares"], "")


def test_empty_folders_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(tmp_path))
    for key, folder in (("adapter", "models/ipadapter"), ("face_pack", "models/insightface/models")):
        names, sentence = components.read_names(*ui.LISTED[key])
        assert names == [components.NONE]
        assert all(part in sentence for part in ("None found", folder, "non-commercial"))


def test_second_models_folder_comes_first(models, tmp_path, monkeypatch):
    from demo.miniwebui import shared

    (tmp_path / "ipadapter").mkdir()
    (tmp_path / "ipadapter/fits.safetensors").write_bytes(b"")
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    assert folders.adapters_by_name()["fits"].parent == (tmp_path / "ipadapter").resolve()
    assert "made_for_sdxl" in folders.adapters_by_name()


def test_photos_are_shown_and_bad_ones_named(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad <b>.png"
    Image.fromarray(np.full((300, 600, 3), 200, np.uint8)).save(good)
    bad.write_text("not a picture", encoding="utf-8")
    gallery, status, checked, identity = ui.show_photos([str(good), str(bad)], "Anna")
    (thumbnail, name), *rest = gallery["value"]
    assert name == "good.png"
    assert not rest
    assert thumbnail.size == (256, 128)
    assert ">1 photo.<" in status
    assert "bad &lt;b&gt;.png" in status
    assert ui.CONSENT in status
    assert checked == face_check.HINT
    assert identity["value"] == ""  # photos take the saved identity's place


@pytest.mark.parametrize("nothing", [None, []])
def test_no_photos(nothing):
    gallery, status, _, identity = ui.show_photos(nothing, "")
    assert gallery["value"] == []
    assert ">No photo yet.<" in status
    assert "value" not in identity


def test_a_saved_identity_stays_when_photos_go():
    _, status, _, identity = ui.show_photos(None, 'A "<b>"')
    assert 'data-beyondfacial="A &quot;&lt;b&gt;&quot;"' in status
    assert "Saved identity" in status
    assert "value" not in identity


def test_labels_are_unique():
    assert len({field.label for field in FIELDS}) == len(FIELDS) == len(BY_KEY)
