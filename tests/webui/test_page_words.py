"""What the page says: errors that are seen in any theme, in its own labels; lists that can be cleared."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from demo.miniwebui import basics, shared
from lib_beyondfacial.adapters.attention import check_fits
from lib_beyondfacial.adapters.checkpoints import AdapterSpec
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.settings import FIELDS, Settings, keys_to_labels
from lib_beyondfacial.unet.sites import Site
from lib_beyondfacial.webui import components, face_check, identities, listings, ui
from lib_beyondfacial.webui import identities_ui as page
from tests.faces.conftest import draw


def test_errors_are_marked_and_red_in_both_themes():
    shown = components.error_html('"refine_head" <b> failed.')
    assert components.MARK in shown
    assert f'class="{components.ERROR_CLASS}"' in shown
    assert f".dark .{components.ERROR_CLASS}" in shown
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
    assert "&quot;Identity weight&quot; is 99" in components.exception_html(caught.value)


def test_unknown_models_are_told_apart():
    sites = [Site("input_blocks.1.attn2", 32, 4, 64)]
    with pytest.raises(BeyondFacialError, match="context width 128.*context width 64") as caught:
        check_fits(AdapterSpec("faceid", 4, 128, (32,), False), sites)
    assert "another kind" not in str(caught.value)


def test_lists_can_be_cleared_by_a_choice(models_dir, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(models_dir))
    with gr.Blocks() as blocks:
        built = ui.build(False)
    by_key = {field.key: component for field, component in zip(FIELDS, built.components, strict=True)}
    for key in ("adapter", "face_pack", "identity"):
        choices = [each[0] if isinstance(each, tuple) else each for each in by_key[key].choices]
        assert choices[0] == components.NONE
        assert "" not in choices  # gradio 3 passes over it, and takes the next
        clears = [d for d in blocks.config["dependencies"] if d["inputs"] == d["outputs"] == [by_key[key]._id]]
        assert len(clears) == 1
        (clear,) = [f.fn for f in functions_of(blocks) if f is not None and f.name == "clear"][:1]
        assert clear(components.NONE)["value"] == ""
        assert "value" not in clear("fits")


def functions_of(blocks):
    """gradio 3 keeps a list, gradio 4 a dictionary."""
    return blocks.fns.values() if isinstance(blocks.fns, dict) else blocks.fns


def test_none_means_none_wherever_a_list_is_read(models_dir, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(models_dir))
    assert listings.adapter_text(components.NONE, "auto") == listings.adapter_text("", "auto")
    assert page.card_text(components.chosen_name(components.NONE)) == (page.NONE_CHOSEN, None)
    assert face_check.settings_of(None, components.NONE, components.NONE, "auto", "largest", 1).adapter == ""
    assert ui.show_photos(None, components.NONE) == ui.show_photos(None, "")
    none_chosen = {"identity": components.NONE, "adapter": components.NONE, "face_pack": components.NONE}
    values = Settings().to_dict() | none_chosen
    assert Settings.from_script_args(*values.values()) == Settings()


def test_the_text_says_which_adapter_it_is_about(models_dir, monkeypatch):
    monkeypatch.setattr(basics, "models_path", str(models_dir))
    assert listings.adapter_text("fits", "auto").startswith("fits: ")


@pytest.fixture
def anna(host, tmp_path, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    path = tmp_path / "anna.png"
    Image.fromarray(draw(1)).save(path)
    page.save_photos("Anna", False, False, [str(path)], "", "fits", "auto", "largest", 1)
    return "Anna"


def test_checking_a_saved_identity_tells_of_it(anna):
    gallery, text = face_check.show(None, "", "", "auto", "largest", 1, anna)
    assert "no photo to check" not in text
    assert "1 photo was checked when it was saved" in text
    assert "Anna" in text
    assert isinstance(gallery["value"][0][0], np.ndarray)
    gallery, text = face_check.show(None, "", "", "auto", "largest", 1, "nobody")
    assert "nobody" in text
    assert components.MARK in text


def test_photos_are_checked_before_a_saved_identity(anna, tmp_path):
    _, text = face_check.show([str(tmp_path / "anna.png")], "", "", "auto", "largest", 1, anna)
    assert "1 of 1 used" in text
    assert identities.names() == [anna]
