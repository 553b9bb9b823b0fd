"""What a user does on the page: opens, uploads, chooses, generates, reads; gradio 3 and 4 alike."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import TimeoutError

from lib_beyondfacial.settings import Field
from lib_beyondfacial.settings.fields import MOST_BUTTONS

SHOTS = os.environ.get("BEYONDFACIAL_SCREENSHOTS")
TAB = "#beyondfacial_txt2img"
SECOND = f"{TAB}_person_2"  # before the names of the second person's parts
HAND_MS = 1000  # ten times what an answer of the page takes
RUN_MS = 120_000


def shoot(page, name):
    """Keep a picture of the page where one was asked for."""
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def open_accordion(page):
    page.click(f"{TAB} > .label-wrap")
    page.wait_for_selector(f"{TAB}_weight", state="visible")
    page.wait_for_timeout(HAND_MS)  # the lists are read again


def open_fold(page, name):
    page.click(f"{TAB}_{name} > .label-wrap")


def open_second(page):
    page.click(f"{TAB}_persons > .tab-nav > button >> nth=1")
    page.wait_for_selector(f"{SECOND}_subject", state="visible")


def upload(page, *files, person=TAB):
    """As late as a hand chooses files: gradio 3 forgets an upload, "Uploading..." for good, when an answer to what was
    clicked before arrives meanwhile."""
    page.wait_for_timeout(HAND_MS)
    page.set_input_files(f"{person}_add_photos input[type=file]", files)


def checked(page, count, person=TAB):
    """Wait until so many photos are shown and have been checked, which the page does by itself."""
    page.wait_for_selector(f"{person}_photos [data-check=checked]", timeout=RUN_MS)
    assert page.locator(f"{person}_photos figure").count() == count


def tab_to(page, selector):
    """Go there with the Tab key alone."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"the Tab key does not lead to {selector}")


def title(page):
    return page.inner_text(f"{TAB} > .label-wrap")


def says(page, part, words):
    page.wait_for_selector(f"{TAB}_{part}:has-text({json.dumps(words)})")


def choose(page, part, name):
    """Pick a name from the list of one of our dropdowns."""
    pick(page, f"{TAB}_{part}", name)


def pick(page, dropdown, name):
    """Pick a name from a dropdown's list, as gradio 3 and 4 draw it; gradio 3 draws an open list once."""
    words = f":has-text({json.dumps(name)})"
    item = page.locator(f"{dropdown} [role=option]{words}, .options .item{words}").first
    for _ in range(20):
        page.click(f"{dropdown} input")
        try:
            item.click(timeout=2000)
        except TimeoutError:
            page.click(f"{TAB}_weight input[type=number]")  # closes the list
        else:
            return
    pytest.fail(f"{name} is not in the list {dropdown}")


def generate(page, steps=4, prompt="photo of a man running in the forest, full body shot"):
    page.fill("#txt2img_prompt textarea", prompt)
    page.fill("#txt2img_steps input[type=number]", str(steps))
    page.click("#txt2img_generate")


def infotext(page):
    """What stands under the pictures once the run that was just begun is done."""
    page.wait_for_selector("#html_info_txt2img:has-text('BeyondFacial report')", timeout=RUN_MS)
    return page.text_content("#html_info_txt2img p")


def run(page, **values):
    """Generate, and wait for the answer: the gallery's pictures as files hold them, infotexts among them."""
    page.evaluate("document.querySelectorAll('#html_info_txt2img p').forEach((each) => { each.dataset.old = 1; })")
    generate(page, **values)
    page.wait_for_selector("#html_info_txt2img p:not([data-old])", timeout=RUN_MS)
    page.wait_for_timeout(HAND_MS)  # the gallery is drawn after the text
    contents = page.evaluate(
        """() => Promise.all([...document.querySelectorAll('#txt2img_gallery .grid-wrap img')].map(async (image) => {
            const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
            return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
        }))"""
    )
    return [Image.open(io.BytesIO(base64.b64decode(content))) for content in contents]


def is_radio(field: Field) -> bool:
    return field.kind == "choice" and len(field.choices) <= MOST_BUTTONS


def value_of(page, field: Field):
    """What a setting's component shows; None for the photos."""
    place = f"{TAB}_{field.key}"
    if field.kind == "photos":
        return None
    if field.kind == "bool":
        return page.is_checked(f"{TAB}-checkbox input" if field.key == "enabled" else f"{place} input")
    if is_radio(field):
        return page.locator(f"{place} input:checked").first.input_value()
    if field.kind in ("float", "int"):
        return float(page.input_value(f"{place} input[type=number]"))
    return page.locator(f"{place} textarea, {place} input").first.input_value()


def set_value(page, field: Field, value):
    place = f"{TAB}_{field.key}"
    if field.kind == "bool":
        page.set_checked(f"{place} input", value)
    elif is_radio(field):
        page.check(f'{place} input[value="{value}"]')
    elif field.kind in ("float", "int"):
        page.fill(f"{place} input[type=number]", str(value))
        page.press(f"{place} input[type=number]", "Tab")
    elif field.empty or field.kind == "choice":
        choose(page, field.key, value)
    else:
        page.fill(f"{place} textarea, {place} input", value)
