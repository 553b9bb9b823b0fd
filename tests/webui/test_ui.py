"""The accordion, built by gradio itself."""

from __future__ import annotations

import gradio as gr
import pytest

from demo.miniwebui import basics
from lib_beyondfacial.settings import AUTOMATIC, BY_KEY, FIELDS, PAGE_FIELDS, Settings
from lib_beyondfacial.webui import components, folders, setup_ui, ui
from lib_beyondfacial.webui.infotext import PASTED_FIELDS
from tests.random_adapter import write_faceid_adapter


@pytest.fixture
def models(models_dir, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(models_dir))
    return models_dir


def build(is_img2img=False):
    with gr.Blocks() as page:
        return page, ui.build(is_img2img)


def test_components_stand_in_the_order_of_the_table(models):
    _, page = build()
    for field, component in zip(PAGE_FIELDS, page.components, strict=True):
        assert component.value == (None if field.kind == "photos" else field.empty or field.default), field.key
        for limit in ("minimum", "maximum"):
            assert getattr(component, limit, None) == getattr(field, limit), field.key


def test_untouched_page_means_the_defaults(models):
    _, page = build()
    assert Settings.from_script_args(*(component.value for component in page.components)) == Settings()


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
    assert len(shown) > len(PAGE_FIELDS)
    assert all(block.do_not_save_to_config for block in shown)


def test_building_again_gives_the_same(models):
    first, second = build()[1], build()[1]
    assert [type(a) for a in first.components] == [type(b) for b in second.components]
    assert first.paste_field_names == second.paste_field_names == [f.infotext for f in PASTED_FIELDS]


def test_components_are_gradios_own(models):
    blocks, page = build()
    foreign = {type(b).__name__ for b in blocks.blocks.values() if not type(b).__module__.startswith("gradio")}
    assert foreign <= {"InputAccordion"}  # the host's


def test_adapters_and_packs_are_listed_by_name(models):
    names = {key: components.read_names(BY_KEY[key], list_names) for key, list_names in ui.LISTED.items()}
    assert sorted(names["adapter"]) == sorted([AUTOMATIC, "fits", "made_for_sdxl", "text"])
    assert names["face_pack"] == [AUTOMATIC, "squares"]


def test_nothing_is_missing_where_all_is_there(host):
    assert setup_ui.missing_html() == ""


def test_what_is_missing_is_listed_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(tmp_path))
    shown = setup_ui.missing_html()
    for folder in ("ipadapter", "insightface/models"):
        assert str(tmp_path / folder) in shown
    assert shown.count("non-commercial") == 2
    assert shown.count('href="https://') == 2
    row, text, *_ = ui.look_again("", "auto", "")
    assert (row["visible"], text) == (True, shown)


def test_no_adapter_for_the_loaded_model_is_listed(host, tmp_path, monkeypatch):
    (tmp_path / "ipadapter").mkdir()
    write_faceid_adapter(tmp_path / "ipadapter/other.safetensors", context_dim=2048, widths=[64] * 70)
    monkeypatch.setattr(folders, "adapters_by_name", lambda: {"other": tmp_path / "ipadapter/other.safetensors"})
    shown = setup_ui.missing_html()
    assert "none of the 1 found can be used" in shown
    assert "A face pack" not in shown


def test_second_models_folder_comes_first(models, tmp_path, monkeypatch):
    from demo.miniwebui import shared

    (tmp_path / "ipadapter").mkdir()
    (tmp_path / "ipadapter/fits.safetensors").write_bytes(b"")
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    assert folders.adapters_by_name()["fits"].parent == (tmp_path / "ipadapter").resolve()
    assert "made_for_sdxl" in folders.adapters_by_name()


def test_labels_are_unique():
    assert len({field.label for field in FIELDS}) == len(FIELDS) == len(BY_KEY)
