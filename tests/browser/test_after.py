"""Two persons, what is offered after a run, and the page without a mouse, in a real browser."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from demo.dollhouse.world import SIZE
from lib_beyondfacial.settings import PAGE_PERSON_FIELDS
from tests.browser.hands import (
    HAND_MS,
    RUN_MS,
    SECOND,
    TAB,
    checked,
    generate,
    infotext,
    open_accordion,
    open_fold,
    open_second,
    says,
    set_value,
    shoot,
    tab_to,
    title,
    upload,
    value_of,
)

pytestmark = pytest.mark.browser
TWO = "photo of a man and a woman standing on the beach, full body shot"
FIELDS_OF_IMG2IMG = """for (const [name, field] of [
    ["prompt", "<textarea>"], ["neg_prompt", "<textarea>x"], ["width", "<input type=number>"],
    ["height", "<input type=number>"],
]) document.body.insertAdjacentHTML("beforeend", `<div class=of-img2img id=img2img_${name}>${field}</div>`)"""
OF_TWO = {
    "person_1_position": "2", "person_2_subject": "woman", "person_2_position": "1", "person_2_weight": 0.8,
}  # fmt: skip


@pytest.fixture
def second_photo(photo_file, tmp_path):
    """The same face once more, so that any pack finds it."""
    path = tmp_path / "second.png"
    pixels = np.asarray(Image.open(photo_file).convert("RGB"))
    Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(path)
    return path


def test_two_persons_are_given_told_of_and_pasted_back(page, photo_file, second_photo):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    open_fold(page, "face")
    page.fill(f"{TAB}_subject input", "man")
    open_second(page)
    says(page, "person_2_photos", "Nobody yet")
    upload(page, second_photo, person=SECOND)
    checked(page, 1, person=SECOND)
    assert "BeyondFacial (1 photo + 1 photo)" in title(page)
    page.fill(f"{SECOND}_name input", "Eve")
    fields = [field for field in PAGE_PERSON_FIELDS if field.key in OF_TWO]
    for field in fields:
        set_value(page, field, OF_TWO[field.key])
    generate(page, prompt=TWO)
    text = infotext(page)
    comments = page.inner_text("#html_info_txt2img .comments")
    assert "BeyondFacial picture 1, person 1: " in comments
    assert "BeyondFacial picture 1, Eve: " in comments
    assert "Eve" not in text
    shoot(page, "two_persons")
    page.reload()
    page.wait_for_selector(TAB)
    page.fill("#txt2img_prompt textarea", text)
    page.click("#paste")
    says(page, "pasted", "of the second person")
    open_fold(page, "face")
    open_second(page)
    assert {field.key: value_of(page, field) for field in fields} == OF_TWO
    assert page.input_value(f"{TAB}_subject input") == "man"


def test_a_second_person_without_a_photo_is_told(page, photo_file, second_photo):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    open_second(page)
    page.fill(f"{SECOND}_subject input", "woman")
    generate(page, prompt=TWO)
    page.wait_for_selector("#html_info_txt2img .error:has-text('second person has no photos')")
    upload(page, second_photo, person=SECOND)
    checked(page, 1, person=SECOND)
    page.click(f"{SECOND}_photos .beyondfacial-remove")
    says(page, "person_2_photos", "Nobody yet")
    page.fill(f"{SECOND}_subject input", "")
    generate(page)
    assert "BeyondFacial person 2" not in infotext(page)


def test_the_mask_goes_to_inpaint_and_the_plain_picture_stands_behind(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    generate(page)
    infotext(page)
    assert page.locator("[data-beyondfacial-mask]").count() == 0, "no mask is shown"
    open_fold(page, "mask")
    page.check(f"{TAB}_show_mask input")
    page.check(f"{TAB}_plain_picture input")
    page.fill("#txt2img_seed input", "7")
    page.evaluate(FIELDS_OF_IMG2IMG)
    generate(page)
    page.wait_for_function("document.querySelectorAll('#txt2img_gallery .grid-wrap img').length === 3", timeout=RUN_MS)
    page.click("[data-beyondfacial-mask='1']")
    for box in ("base", "mask"):
        page.wait_for_selector(f"#img_inpaint_{box} img", state="visible")
    filled = page.evaluate("[...document.querySelectorAll('.of-img2img > *')].map((field) => field.value)")
    assert filled == [page.input_value("#txt2img_prompt textarea"), "", str(SIZE), str(SIZE)]
    assert "plain picture comes on top" in page.inner_text("#html_info_txt2img")
    page.click("[data-beyondfacial-mask='1']")  # again, over what is there
    page.wait_for_timeout(HAND_MS)
    levels = page.evaluate(
        """async () => {
            const image = document.querySelector("#img_inpaint_mask img"), canvas = document.createElement("canvas");
            await image.decode();
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const data = Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
            return [data.filter((_, i) => i % 4 === 0), data.filter((_, i) => i % 4 === 2)];
        }"""
    )
    assert levels[0] == levels[1], "grey"
    assert max(levels[0]) > min(levels[0]) + 40
    shoot(page, "mask_in_inpaint")


def test_the_whole_flow_with_the_keyboard_alone(page, photo_file):
    def choose_file():
        """Enter asks for files; the browser's own dialog is not ours."""
        asks = "(input) => input.addEventListener('click', (e) => { window.asked = true; e.preventDefault(); })"
        page.locator(f"{TAB}_add_photos input[type=file]").evaluate(asks)
        page.keyboard.press("Enter")
        page.wait_for_function("window.asked")
        page.evaluate("window.asked = false")
        upload(page, photo_file)
        checked(page, 1)

    tab_to(page, f"{TAB} > .label-wrap, {TAB} > .label-wrap *")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{TAB}_weight", state="visible")
    page.wait_for_timeout(HAND_MS)  # as in `open_accordion`
    tab_to(page, f"{TAB}_add_photos button, {TAB}_add_photos [role=button]")
    choose_file()
    tab_to(page, f"{TAB}_photos .beyondfacial-remove")
    page.keyboard.press("Enter")
    says(page, "photos", "Nobody yet")
    page.wait_for_function(f"document.querySelector('{TAB}_add_photos').contains(document.activeElement)")
    choose_file()
    tab_to(page, f"{TAB}_weight input[type=number]")
    page.keyboard.press("ArrowUp")
    tab_to(page, f"{TAB}_mask > .label-wrap")
    page.keyboard.press("Enter")
    tab_to(page, f"{TAB}_show_mask input")
    page.keyboard.press("Space")
    tab_to(page, "#txt2img_prompt textarea")
    page.keyboard.type("photo of a man")
    page.fill("#txt2img_steps input[type=number]", "4")  # less to wait for
    tab_to(page, "#txt2img_generate")
    page.keyboard.press("Enter")
    text = infotext(page)
    assert "BeyondFacial weight: 1.05" in text
    assert "BeyondFacial show mask: True" in text
    tab_to(page, "[data-beyondfacial-mask='1']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#img_inpaint_mask img", state="visible")


def test_an_own_preset_is_refused_saved_and_deleted(page):
    open_accordion(page)
    page.uncheck(f"{TAB}_refine_head input")
    page.wait_for_function(f"document.querySelector('{TAB}_preset input').value === 'Custom'")
    page.click(f"{TAB}_own_preset")
    name = f"{TAB}_preset_name textarea, {TAB}_preset_name input"
    page.fill(name, "Portrait")
    page.click(f"{TAB}_save_preset")
    says(page, "preset_note", "comes with this extension")
    page.fill(name, "Without")
    page.click(f"{TAB}_save_preset")
    page.wait_for_function(f"document.querySelector('{TAB}_preset input').value === 'Without'")
    page.click(f"{TAB}_own_preset")
    page.click(f"{TAB}_delete_preset")
    page.wait_for_function(f"document.querySelector('{TAB}_preset input').value === 'Custom'")
    assert not page.is_checked(f"{TAB}_refine_head input")
