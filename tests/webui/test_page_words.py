"""What the page says: errors that are seen in any theme, in its own labels; lists that can be cleared."""

from __future__ import annotations

import html
import json
import re

import gradio as gr
import pytest
from PIL import Image

from demo.miniwebui import basics, shared
from demo.miniwebui.host import REPOSITORY
from lib_beyondfacial.adapters.attention import check_fits
from lib_beyondfacial.adapters.checkpoints import AdapterSpec
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.settings import AUTOMATIC, FIELDS, NONE, PAGE_FIELDS, Settings, keys_to_labels
from lib_beyondfacial.unet.sites import Site
from lib_beyondfacial.webui import components, face_check, identities, listings, photos_ui, ui
from lib_beyondfacial.webui import identities_ui as page
from tests.faces.conftest import draw
from tests.webui.conftest import page_args


def test_errors_are_marked_and_red_in_both_themes():
    shown = components.error_html('"refine_head" <b> failed.')
    assert components.MARK in shown
    assert f'class="{components.ERROR_CLASS}"' in shown
    style = (REPOSITORY / "style.css").read_text(encoding="utf-8")  # the hosts load it by its name
    assert f".{components.ERROR_CLASS}," in style
    assert f".dark .{components.ERROR_CLASS}," in style
    assert "&lt;b&gt;" in shown
    assert "&quot;Refine head&quot;" in shown


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.key)
def test_every_key_has_its_label_in_sentences(field):
    assert keys_to_labels(f'Set "{field.key}" to 1.') == f'Set "{field.label}" to 1.'


def test_values_that_look_like_keys_stay():
    assert keys_to_labels('"identity" is "start"; choose "fits".') == '"Saved identity" is "start"; choose "fits".'


def test_the_pages_errors_speak_labels():
    with pytest.raises(BeyondFacialError) as caught:
        Settings(weight=99)
    assert "&quot;Likeness&quot; is 99" in components.exception_html(caught.value)


def test_unknown_models_are_told_apart():
    sites = [Site("input_blocks.1.attn2", 32, 4, 64)]
    with pytest.raises(BeyondFacialError, match="context width 128.*context width 64") as caught:
        check_fits(AdapterSpec("faceid", 4, 128, (32,), False), sites)
    assert "another kind" not in str(caught.value)


def test_an_empty_choice_has_words(models_dir, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(models_dir))
    with gr.Blocks():
        built = ui.build(False)
    by_key = {field.key: component for field, component in zip(PAGE_FIELDS, built.components, strict=True)}
    for key, words in (("adapter", AUTOMATIC), ("face_pack", AUTOMATIC), ("identity", NONE)):
        choices = [each[0] if isinstance(each, tuple) else each for each in by_key[key].choices]
        assert choices[0] == by_key[key].value == words
        assert "" not in choices  # gradio 3 passes over it, and takes the next
        assert components.chosen_name(words) == ""


def test_empty_words_mean_none_wherever_a_list_is_read(models_dir, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(models_dir))
    assert listings.adapter_text(AUTOMATIC, "auto") == listings.adapter_text("", "auto")
    assert face_check.settings_of(None, AUTOMATIC, AUTOMATIC, "auto", "largest", 1).adapter == ""
    none_chosen = {"identity": NONE, "adapter": AUTOMATIC, "face_pack": AUTOMATIC}
    values = Settings().to_dict() | none_chosen
    assert Settings.from_script_args(*page_args(values)) == Settings()


def test_an_adapter_that_does_not_fit_is_last_and_has_its_reason(host):
    assert listings.adapter_names() == ["fits", "made_for_sdxl", "text"]
    shown = listings.adapter_text("fits", "auto")
    unfit = json.loads(html.unescape(re.search('data-beyondfacial-unfit="(.*?)"', shown)[1]))
    assert list(unfit) == ["made_for_sdxl", "text"]
    assert "SDXL" in unfit["made_for_sdxl"]
    assert "fits the loaded model" in shown
    assert components.MARK in listings.adapter_text("made_for_sdxl", "auto")


@pytest.fixture
def anna(host, tmp_path, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    path = tmp_path / "anna.png"
    Image.fromarray(draw(1)).save(path)
    page.save_photos("Anna", False, False, [str(path)], "", "fits", "auto", "largest", 1)
    return "Anna"


def test_checking_a_saved_identity_tells_of_it(anna):
    text = photos_ui.check(None, "", "", "auto", "largest", 1, anna)
    assert "From 1 photo; saved 20" in text
    assert "Anna" in text
    assert "<img" in text
    text = photos_ui.check(None, "", "", "auto", "largest", 1, "nobody")
    assert "nobody" in text
    assert components.MARK in text


def test_photos_are_checked_before_a_saved_identity(anna, tmp_path):
    text = photos_ui.check([str(tmp_path / "anna.png")], "", "", "auto", "largest", 1, anna)
    assert "The photo can be used" in text
    assert identities.names() == [anna]
