"""The host's own selectable script "X/Y/Z plot", with the seams of A1111's: `axis_options` of this module, to which
extensions append, the methods of AxisOption, and a cell that is a request on a copy of `p`. Z and Y share the rows."""

from __future__ import annotations

import copy
import itertools
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image, ImageDraw, ImageFont

from demo.miniwebui import basics, processing, scripts, shared

TITLE = "X/Y/Z plot"
NOTHING = "Nothing"
AXES = "zyx"  # from the outer loop to the inner one
LINE_PX, LETTER_PX, MARGIN_PX, LEGEND_PX = 14, 6, 4, 120


class AxisOption:
    """Arguments and attributes as the hosts' have them."""

    def __init__(  # noqa: PLR0913  the hosts' own
        self,
        label: str,
        type: Callable[[str], Any],
        apply: Callable[[Any, Any, list], None],
        format_value: Callable[[Any, Any, Any], str] = lambda _p, option, value: f"{option.label}: {value}",
        confirm: Callable[[Any, list], None] | None = None,
        cost: float = 0.0,
        choices: Callable[[], list[str]] | None = None,
        prepare: Callable[[str], list[str]] | None = None,
    ):
        self.label, self.type, self.apply, self.cost = label, type, apply, cost
        self.format_value, self.confirm, self.choices, self.prepare = format_value, confirm, choices, prepare


axis_options = [
    AxisOption(NOTHING, str, lambda _p, _value, _values: None, lambda _p, _option, _value: ""),
    AxisOption("Seed", int, lambda p, value, _values: setattr(p, "seed", value)),
    AxisOption("CFG Scale", float, lambda p, value, _values: setattr(p, "cfg_scale", value)),
]


class Cell(NamedTuple):
    """A picture of the plot. image, processed: None where the request failed; legend: a line for each axis."""

    image: Image.Image | None
    text: str
    legend: list[str]
    processed: processing.Processed | None


def plot_cells(p: Any, axes: Sequence[tuple[AxisOption, Sequence[str]]]) -> list[Cell]:
    """All cells, the last axis's values side by side; a cell that fails is printed and left blank, as in the hosts.

    axes: pairs of an option and its values as typed.
    """
    typed = []
    for option, values in axes:
        listed = [option.type(value) for value in values]
        if option.confirm:
            option.confirm(p, listed)
        typed.append([(option, value) for value in listed])
    combinations = list(itertools.product(*typed))
    shared.state.job_count = len(combinations)
    return [make_cell(p, combination) for combination in combinations]


def make_cell(p: Any, combination: Sequence[tuple[AxisOption, Any]]) -> Cell:
    each = copy.copy(p)
    for option, value in combination:
        option.apply(each, value, [])
    legend = [option.format_value(p, option, value) for option, value in combination]
    try:
        processed = processing.process_images(each)
        return Cell(processed.images[0], processed.infotexts[0], legend, processed)
    except Exception:
        basics.report("Error generating image for xyz plot", exc_info=True)
        return Cell(None, "", legend, None)


def draw_grid(images: Sequence[Image.Image | None], columns: Sequence[str], rows: Sequence[str]) -> Image.Image:
    """The pictures row by row on white, with the columns' legends above and the rows' at the left."""
    width, height = next(image.size for image in images if image is not None)
    above, left = legend_height(columns, width), LEGEND_PX if any(rows) else 0
    grid = Image.new("RGB", (left + width * len(columns), above + height * len(rows)), "white")
    for place, image in enumerate(images):
        row, column = divmod(place, len(columns))
        if image is not None:
            grid.paste(image, (left + column * width, above + row * height))
    for column, text in enumerate(columns):
        write(grid, text, (left + column * width, 0), width)
    for row, text in enumerate(rows):
        write(grid, text, (0, above + row * height), left)
    return grid


def wrap(text: str, width: int) -> list[str]:
    return [part for line in text.splitlines() for part in textwrap.wrap(line, (width - 2 * MARGIN_PX) // LETTER_PX)]


def legend_height(texts: Sequence[str], width: int) -> int:
    lines = max(len(wrap(text, width)) for text in texts)
    return lines * LINE_PX + 2 * MARGIN_PX if lines else 0


def write(image: Image.Image, text: str, place: tuple[int, int], width: int) -> None:
    """Black letters, in as many lines as the width wants."""
    for number, line in enumerate(wrap(text, width)):
        at = (place[0] + MARGIN_PX, place[1] + MARGIN_PX + number * LINE_PX)
        ImageDraw.Draw(image).text(at, line, fill="black", font=ImageFont.load_default())


class Script(scripts.Script):
    def title(self) -> str:
        return TITLE

    def ui(self, is_img2img: bool) -> list[Any]:
        """Two components for each axis, X first, and whether the cells' own pictures are wanted behind the grid."""
        labels, made = [option.label for option in axis_options], []
        for axis in reversed(AXES):
            with gr.Row():
                place = {"elem_id": self.elem_id(f"{axis}_type"), "type": "index"}
                made.append(gr.Dropdown(labels, value=NOTHING, label=f"{axis.upper()} type", **place))
                made.append(gr.Textbox(label=f"{axis.upper()} values", elem_id=self.elem_id(f"{axis}_values")))
        place = {"elem_id": self.elem_id("include_lone_images")}
        return [*made, gr.Checkbox(False, label="Include Sub Images", **place)]

    def run(self, p: Any, *args: Any) -> processing.Processed:
        """The grid, and the cells behind it if they are wanted; an error where a value is refused or no cell is made.

        args: the values of ui()'s components.
        """
        *given, wants_cells = args
        chosen = [(axis_options[number or 0], text) for number, text in zip(given[::2], given[1::2], strict=True)]
        p.seed, p.batch_size, p.n_iter = processing.get_fixed_seed(p.seed), 1, 1
        axes = [(option, values_of(option, text)) for option, text in reversed(chosen)]
        cells = plot_cells(p, axes)
        made = [cell for cell in cells if cell.processed is not None]
        if not made:
            raise RuntimeError("No cell of the plot was made; the console says why.")
        count = len(axes[-1][1])
        columns = [cell.legend[-1] for cell in cells[:count]]
        rows = ["\n".join(filter(None, cell.legend[:-1])) for cell in cells[::count]]
        grid = draw_grid([cell.image for cell in cells], columns, rows)
        written = {"Script": TITLE}
        for axis, (option, text) in zip(reversed(AXES), chosen, strict=True):
            if option.label != NOTHING:
                written |= {f"{axis.upper()} Type": option.label, f"{axis.upper()} Values": text}
        more = "".join(f", {key}: {basics.quote(value)}" for key, value in written.items())
        grid.info["parameters"] = made[0].text + more
        processed = copy.copy(made[0].processed)
        shown = made if wants_cells else []
        processed.images = [grid, *(cell.image for cell in shown)]
        processed.infotexts = [grid.info["parameters"], *(cell.text for cell in shown)]
        processed.info, processed.index_of_first_image = processed.infotexts[0], 1
        return processed


def values_of(option: AxisOption, text: str) -> list[str]:
    """The values as typed, between commas; one that nobody reads for the axis "Nothing"."""
    return [""] if option.label == NOTHING else [value.strip() for value in text.split(",")]
