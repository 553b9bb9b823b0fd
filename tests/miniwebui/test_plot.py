"""The host's dropdown "Script" and its X/Y/Z plot, with the host's own axes."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from demo.miniwebui.host import XYZ_GRID, Host, boot

SIDE = 64


@pytest.fixture(scope="module")
def plots(models_dir: Any, probe_extension: Any) -> Host:
    return boot(models_dir, [probe_extension, XYZ_GRID], page=True)


@pytest.fixture
def generate(plots: Host) -> Any:
    """The page's button: number of the script, its arguments -> (pictures, what stands under them)."""
    from demo.miniwebui.page import generate

    def run(number: int, *args: Any, **changes: Any) -> tuple[list, str]:
        fields = {"prompt": "a photo", "negative": "", "sampler": "Euler", "steps": 2, "width": SIDE, "height": SIDE}
        fields |= {"cfg": 7.0, "seed": 7, "batch": 1} | changes
        return generate(*fields.values(), number, False, 1.5, "a", *(args or NO_AXES))

    return run


NO_AXES = (0, "", 0, "", 0, "", True)


def label_of(name: str) -> int:
    from modules import scripts

    return [option.label for option in scripts.scripts_data[-1].module.axis_options].index(name)


def same(first: Any, second: Any) -> bool:
    return first.tobytes() == second.tobytes()


def test_grid_and_cells_are_the_requests_they_name(generate: Any) -> None:
    cfg, seed = label_of("CFG Scale"), label_of("Seed")
    (grid, *cells), text = generate(1, cfg, "3, 9", seed, "7, 8", 0, "", True)
    asked = [generate(0, cfg=c, seed=s) for s in (7, 8) for c in (3.0, 9.0)]
    for cell, ((picture,), _) in zip(cells, asked, strict=True):
        assert same(cell, picture)
        assert cell.info["parameters"] == picture.info["parameters"]
    left, above = grid.width - 2 * SIDE, grid.height - 2 * SIDE
    for place, cell in enumerate(cells):
        x, y = left + place % 2 * SIDE, above + place // 2 * SIDE
        assert same(grid.crop((x, y, x + SIDE, y + SIDE)), cell)
    for legend in (grid.crop((left, 0, left + SIDE, above)), grid.crop((0, above, left, above + SIDE))):
        assert {(0, 0, 0), (255, 255, 255)} <= {colour for _, colour in legend.getcolors(SIDE * grid.size[0])}
    assert 'X Type: CFG Scale, X Values: "3, 9", Y Type: Seed, Y Values: "7, 8"' in grid.info["parameters"]
    assert "Script: X/Y/Z plot" in text


def test_cells_are_shown_where_they_are_wanted(generate: Any) -> None:
    assert len(generate(1, label_of("Seed"), "7, 8", 0, "", 0, "", False)[0]) == 1


def test_all_cells_have_the_seed_that_was_drawn(generate: Any) -> None:
    (_, first, second), _ = generate(1, label_of("CFG Scale"), "7, 7", 0, "", 0, "", True, seed=-1)
    assert same(first, second)


def test_three_axes_are_one_grid_whose_rows_name_two(generate: Any) -> None:
    (grid, *cells), _ = generate(1, label_of("CFG Scale"), "3, 9", 0, "", label_of("Seed"), "7, 8, 9", True)
    assert len(cells) == 6
    assert grid.height >= 3 * SIDE


def test_a_cell_that_fails_is_blank_and_a_plot_without_cells_an_error(generate: Any) -> None:
    from modules import scripts

    def fail(p: Any, *_args: Any) -> None:
        if p.seed in broken:
            p.sample = None

    scripts.scripts_data[0].module.act["process"] = fail
    broken: set[int] = {8}
    try:
        (grid, *cells), _ = generate(1, label_of("Seed"), "7, 8", 0, "", 0, "", True)
        assert len(cells) == 1
        assert grid.crop((SIDE, grid.height - SIDE, 2 * SIDE, grid.height)).getcolors() == [(SIDE**2, (255,) * 3)]
        broken |= {7}
        assert generate(1, label_of("Seed"), "7, 8", 0, "", 0, "", True)[0] == []
    finally:
        scripts.scripts_data[0].module.act.clear()


def test_a_value_that_cannot_be_read_is_an_error_under_the_pictures(generate: Any) -> None:
    images, text = generate(1, label_of("Seed"), "seven", 0, "", 0, "", True)
    assert images == []
    assert "seven" in text


def test_the_dropdown_lists_the_script(plots: Host) -> None:
    client = TestClient(plots.app)
    props = [each["props"] for each in client.get("/config").json()["components"]]
    (dropdown,) = [each for each in props if each.get("elem_id") == "script_list"]
    assert [c if isinstance(c, str) else c[0] for c in dropdown["choices"]] == ["None", "X/Y/Z plot"]
    assert client.get("/sdapi/v1/scripts").json()["txt2img"] == ["the probe", "x/y/z plot"]
    infos = [each for each in client.get("/sdapi/v1/script-info").json() if each["name"] == "x/y/z plot"]
    assert [(each["is_alwayson"], len(each["args"])) for each in infos] == [(False, 7)] * 2
