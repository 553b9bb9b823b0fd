"""X/Y/Z plots on the host's page: two of our axes, and what is left after them."""

from __future__ import annotations

import pytest

from demo.dollhouse.world import SIZE
from tests.browser.hands import RUN_MS, TAB, checked, open_accordion, open_fold, pick, run, shoot, title, upload

pytestmark = pytest.mark.browser
PLACE = "#script_txt2img_xyz_plot"


def choose_axes(page, **values):
    """The script, and the values of our axes Likeness and Refine head."""
    pick(page, "#script_list", "X/Y/Z plot")
    page.wait_for_selector(f"{PLACE}_x_type", state="visible")
    for axis, label in (("x", "Likeness"), ("y", "Refine head")):
        pick(page, f"{PLACE}_{axis}_type", f"[BeyondFacial] {label}")
        page.fill(f"{PLACE}_{axis}_values textarea, {PLACE}_{axis}_values input", values[axis])


def pixels(image):
    return image.convert("RGB").tobytes()


def test_a_plot_of_two_axes_has_four_cells_without_masks_and_leaves_nothing(page, photo_file, saved):
    page.fill("#txt2img_seed input", "7")
    (plain,) = run(page)
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    open_fold(page, "mask")
    page.check(f"{TAB}_show_mask input")
    choose_axes(page, x="0.5, 1", y="True, False")
    page.check(f"{PLACE}_include_lone_images input")
    before = set(saved.iterdir())
    grid, *cells = run(page, steps=8)
    shoot(page, "plot")

    assert [cell.size for cell in cells] == [(SIZE, SIZE)] * 4
    assert pixels(cells[0]) != pixels(cells[1])
    left, above = grid.width - 2 * SIZE, grid.height - 2 * SIZE
    for place, cell in enumerate(cells):
        x, y = left + place % 2 * SIZE, above + place // 2 * SIZE
        assert pixels(grid.crop((x, y, x + SIZE, y + SIZE))) == pixels(cell), "masks are not in the grid"
    assert len(set(saved.iterdir()) - before) == 4, "they are files instead"

    texts = [cell.info["parameters"] for cell in cells]
    assert ["BeyondFacial weight: 0.5" in text for text in texts] == [True, False, True, False]
    assert ["BeyondFacial refine head: False" in text for text in texts] == [False, False, True, True]
    assert all(text.count("BeyondFacial report") == 1 for text in texts)
    assert 'X Type: [BeyondFacial] Likeness, X Values: "0.5, 1"' in grid.info["parameters"]

    pick(page, "#script_list", "None")
    page.wait_for_selector(f"{PLACE}_x_type", state="hidden")
    alone, _mask = run(page, steps=8)
    assert pixels(alone) == pixels(cells[1]), "the page's own values are those of the second cell"
    of_cell, *_ = texts[1].split(", BeyondFacial warnings")  # which alone stand under the pictures
    assert alone.info["parameters"].startswith(of_cell)
    page.click(f"{TAB} > .label-wrap")
    assert title(page).startswith("BeyondFacial")
    (after,) = run(page)
    assert pixels(after) == pixels(plain)
    assert after.info["parameters"] == plain.info["parameters"]


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        ("0.5, 9", "True", '"Likeness" is 9.0; it must be '),
        ("0.5", "True, maybe", "\"Refine head\" is 'maybe'; it must be "),
    ],
)
def test_a_wrong_value_of_an_axis_is_told_before_anything_is_made(page, photo_file, x, y, sentence):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    choose_axes(page, x=x, y=y)
    page.fill("#txt2img_prompt textarea", "photo of a man")
    page.click("#txt2img_generate")
    page.wait_for_selector("#html_info_txt2img .error", timeout=RUN_MS)
    assert sentence in page.inner_text("#html_info_txt2img .error")
    assert page.locator("#txt2img_gallery .grid-wrap img").count() == 0
    shoot(page, f"plot_error_{x}_{y}")
