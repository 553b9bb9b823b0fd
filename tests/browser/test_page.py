"""The page as users meet it, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from demo.dollhouse.world import SIZE
from lib_beyondfacial.settings import NONE

pytestmark = pytest.mark.browser
SHOTS = os.environ.get("BEYONDFACIAL_SCREENSHOTS")


def shoot(page, name):
    """Keep a picture of the page where one was asked for."""
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


HAND_MS = 1000  # ten times what an answer of the page takes


def open_accordion(page):
    page.click("#beyondfacial_txt2img > .label-wrap")
    page.wait_for_selector("#beyondfacial_txt2img_weight", state="visible")


def upload(page, *files):
    """As late as a hand chooses files: gradio 3 forgets an upload, "Uploading..." for good, when an answer to what was
    clicked before arrives meanwhile."""
    page.wait_for_timeout(HAND_MS)
    page.set_input_files("#beyondfacial_txt2img_references input[type=file]", files)


def generate(page, steps=4):
    page.fill("#txt2img_prompt textarea", "photo of a man running in the forest, full body shot")
    page.fill("#txt2img_steps input[type=number]", str(steps))
    page.click("#txt2img_generate")


def pictures(page):
    return page.locator("#txt2img_gallery button.thumbnail-item img, #txt2img_gallery .grid-wrap img")


def test_upload_generate_and_see_picture_and_mask(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    page.wait_for_selector("#beyondfacial_txt2img_status:has-text('1 photo.')")
    page.wait_for_selector("#beyondfacial_txt2img_previews img")
    assert "BeyondFacial (1 photo)" in page.inner_text("#beyondfacial_txt2img > .label-wrap")
    page.check("#beyondfacial_txt2img_show_mask input")
    generate(page)
    page.wait_for_selector("#html_info_txt2img:has-text('BeyondFacial report')", timeout=120_000)
    page.wait_for_function("document.querySelectorAll('#txt2img_gallery .grid-wrap img').length === 2")
    sizes = page.evaluate(
        "Promise.all([...document.querySelectorAll('#txt2img_gallery .grid-wrap img')]"
        ".map(async (image) => { await image.decode(); return [image.naturalWidth, image.naturalHeight]; }))"
    )
    assert sizes == [[SIZE, SIZE], [SIZE, SIZE]]
    shoot(page, "picture_and_mask")


def test_without_photos_the_sentence_stands_under_the_picture(page):
    open_accordion(page)
    generate(page)
    page.wait_for_selector("#html_info_txt2img .error:has-text('\"Photos\" is empty')")
    assert pictures(page).count() == 0
    shoot(page, "error")


def test_a_bad_photo_is_named_at_once(page, tmp_path):
    bad = tmp_path / "holiday.png"
    bad.write_text("not a picture", encoding="utf-8")
    open_accordion(page)
    upload(page, bad)
    page.wait_for_selector("#beyondfacial_txt2img_status:has-text('holiday.png')")


def test_closed_accordion_changes_nothing(page):
    generate(page)
    page.wait_for_selector("#html_info_txt2img:has-text('Steps: 4')", timeout=120_000)
    assert "BeyondFacial" not in page.inner_text("#html_info_txt2img")


def test_refresh_keeps_the_page_alive(page):
    open_accordion(page)
    page.click("#beyondfacial_txt2img_refresh_adapter")
    page.wait_for_function("!document.querySelector('#beyondfacial_txt2img_adapter .generating')")
    assert page.input_value("#beyondfacial_txt2img_adapter input") in ("", NONE)  # gradio 3, gradio 4


def test_presets_set_the_sliders_and_leave_the_person(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    page.wait_for_selector("#beyondfacial_txt2img_status:has-text('1 photo.')")
    page.click("#beyondfacial_txt2img_expert > .label-wrap")
    for button, style in ((1, 0.5), (0, 0)):
        page.click(f"#beyondfacial_txt2img_preset_{button}")
        page.wait_for_function(
            f"+document.querySelector('#beyondfacial_txt2img_style input[type=number]').value === {style}"
        )
        shoot(page, f"preset_{button}")
    assert "1 photo." in page.inner_text("#beyondfacial_txt2img_status")
