"""The page as users meet it, in a real browser."""

from __future__ import annotations

import pytest

from demo.dollhouse.world import SIZE
from lib_beyondfacial.settings import AUTOMATIC, BY_KEY, FOLDS, UI_FIELDS
from tests.browser.hands import (
    RUN_MS,
    TAB,
    checked,
    choose,
    generate,
    infotext,
    open_accordion,
    open_fold,
    says,
    set_value,
    shoot,
    title,
    upload,
    value_of,
)

pytestmark = pytest.mark.browser
HEIGHT = 700  # px of the accordion when it is empty


def test_upload_generate_and_see_picture_mask_and_report(page, photo_file):
    open_accordion(page)
    # gradio 4 keeps room for texts as long as the server has not answered
    page.wait_for_function(f"document.querySelector('{TAB}').getBoundingClientRect().height <= {HEIGHT}")
    assert not page.is_visible(f"{TAB}_missing")
    upload(page, photo_file)
    checked(page, 1)
    says(page, "photos", "The photo can be used.")
    assert "BeyondFacial (1 photo)" in title(page)
    open_fold(page, "mask")
    page.check(f"{TAB}_show_mask input")
    generate(page)
    infotext(page)
    page.wait_for_function("document.querySelectorAll('#txt2img_gallery .grid-wrap img').length === 2")
    sizes = page.evaluate(
        "Promise.all([...document.querySelectorAll('#txt2img_gallery .grid-wrap img')]"
        ".map(async (image) => { await image.decode(); return [image.naturalWidth, image.naturalHeight]; }))"
    )
    assert sizes == [[SIZE, SIZE], [SIZE, SIZE]]
    assert "BeyondFacial picture 1: " in page.inner_text("#html_info_txt2img .comments")
    page.click(f"{TAB}_photos .beyondfacial-use button")
    page.wait_for_function("document.querySelectorAll('#beyondfacial_txt2img_photos figure').length === 2")
    shoot(page, "picture_and_mask")


def test_a_bad_photo_is_named_at_once_in_red_and_taken_out(page, tmp_path, photo_file):
    bad = tmp_path / "holiday.png"
    bad.write_text("not a picture", encoding="utf-8")
    open_accordion(page)
    upload(page, photo_file, bad)
    says(page, "photos", "holiday.png")
    checked(page, 2)
    colour = page.evaluate(f"getComputedStyle(document.querySelector('{TAB}_photos .beyondfacial-error')).color")
    assert colour == "rgb(185, 28, 28)"
    page.click(f"{TAB}_photos .beyondfacial-remove >> nth=1")
    says(page, "photos", "The photo can be used.")
    assert "holiday" not in page.inner_text(f"{TAB}_photos")


def test_closed_accordion_changes_nothing(page):
    generate(page)
    page.wait_for_selector("#html_info_txt2img:has-text('Steps: 4')", timeout=RUN_MS)
    assert "BeyondFacial" not in page.inner_text("#html_info_txt2img")


def test_refresh_keeps_the_page_alive(page):
    open_accordion(page)
    page.click(f"{TAB}_refresh_adapter")
    page.wait_for_function(f"!document.querySelector('{TAB}_adapter .generating')")
    assert page.input_value(f"{TAB}_adapter input") == AUTOMATIC


def test_photos_are_added_and_removed_by_mouse_and_keyboard(page, photo_file, tmp_path):
    second = tmp_path / "second.png"
    second.write_bytes(photo_file.read_bytes())
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    upload(page, second)
    says(page, "photos", "All 2 photos can be used.")
    assert "BeyondFacial (2 photos)" in title(page)
    page.focus(f"{TAB}_photos .beyondfacial-remove >> nth=0")
    page.keyboard.press("Enter")
    says(page, "photos", "The photo can be used.")
    assert "second.png" in page.inner_text(f"{TAB}_photos")
    page.click(f"{TAB}_photos .beyondfacial-remove")
    says(page, "photos", "Nobody yet")
    assert title(page).strip().startswith("BeyondFacial")
    assert "(" not in title(page)


def test_presets_set_the_sliders_say_so_and_leave_the_person(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    choose(page, "preset", "As in the paper")
    says(page, "preset_note", "Style alignment 0.5")
    open_fold(page, "expert")
    assert value_of(page, BY_KEY["style"]) == 0.5
    set_value(page, BY_KEY["style"], 0.3)
    says(page, "preset_note", "Style alignment 0.3")
    page.wait_for_function(f"document.querySelector('{TAB}_preset input').value === 'Custom'")
    page.click(f"{TAB}_own_preset")
    page.fill(f"{TAB}_preset_name textarea, {TAB}_preset_name input", "Mine")
    page.click(f"{TAB}_save_preset")
    page.wait_for_function(f"document.querySelector('{TAB}_preset input').value === 'Mine'")
    choose(page, "preset", "Default")
    page.wait_for_function(f"!document.querySelector('{TAB}_preset_note').innerText.includes('Changed')")
    assert value_of(page, BY_KEY["style"]) == 0
    choose(page, "preset", "Mine")
    says(page, "preset_note", "Style alignment 0.3")
    assert "1 photo" in title(page)


CHANGED = {
    "weight": 1.2, "refine_head": False, "start": 0.1, "stop": 0.9, "mask_strength": 0.9, "mask_softness": 0.4,
    "idap_strength": 0.3, "show_mask": True, "face_choice": "most similar", "face_index": 2, "subject": "man",
    "gender_alignment": "off", "mask_mode": "whole", "refine_size": 128, "refine_weight": 1.0, "hires_pass": "first",
    "rho": 0.9,
    "stride": 2, "decision_reference": "uncond", "smoothing": 0.4, "style": 0.2, "clip_weight": 0.5,
    "identity_in_infotext": True,
    "id_prompt": "{prompt}, close-up", "in_tiles": True, "plain_picture": True,
}  # fmt: skip


def test_every_setting_comes_back_from_the_pasted_infotext(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    for fold in FOLDS:
        open_fold(page, fold)
    for key in ("adapter", "face_pack"):
        first = page.evaluate("() => fetch('/beyondfacial/v1/models').then((answer) => answer.json())")
        name = first["adapters"][0]["name"] if key == "adapter" else first["face_packs"][0]
        choose(page, key, name)
    for field in UI_FIELDS:
        if field.key in CHANGED:
            set_value(page, field, CHANGED[field.key])
    given = {field.key: value_of(page, field) for field in UI_FIELDS}
    untouched = {field.key for field in UI_FIELDS if given[field.key] in (field.default, field.empty or field.default)}
    assert untouched <= {"identity", "adapter_family", "source"}
    generate(page)
    unit = {"source": "ControlNet unit 1"}  # which a host without ControlNet can paste but not generate
    text = f"{infotext(page)}, {BY_KEY['source'].infotext}: {unit['source']}"
    page.reload()
    page.wait_for_selector(TAB)
    page.fill("#txt2img_prompt textarea", text)
    page.click("#paste")
    page.wait_for_selector(f"{TAB}_weight", state="visible")  # the accordion opens with it
    page.wait_for_function(f"+document.querySelector('{TAB}_weight input[type=number]').value === 1.2")
    says(page, "preset_note", "Likeness 1.2")
    assert {field.key: value_of(page, field) for field in UI_FIELDS} == given | unit
