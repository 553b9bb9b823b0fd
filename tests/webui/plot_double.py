"""A stand-in for the hosts' xyz_grid.py: the list of axes, and a plot whose cells are requests on copies of `p`."""

from __future__ import annotations

import copy
import itertools
from types import ModuleType, SimpleNamespace

from demo.miniwebui import processing, scripts


class AxisOption:
    """Arguments and attributes as the hosts' have them."""

    def __init__(  # noqa: PLR0913  the hosts' own
        self, label, kind, apply, format_value=None, confirm=None, cost=0.0, choices=None, prepare=None
    ):
        self.label, self.type, self.apply, self.cost = label, kind, apply, cost
        self.format_value, self.confirm, self.choices, self.prepare = format_value, confirm, choices, prepare


def loaded_module():
    """The script as the host's list of loaded scripts has it, and its module."""
    module = ModuleType("xyz_grid.py")
    module.AxisOption, module.axis_options = AxisOption, [AxisOption("Nothing", str, None)]
    return scripts.ScriptClassData(object, "/host/scripts/xyz_grid.py", "/host", module), module


def plot(p, axes):
    """Pictures, infotexts and legends of all cells, row by row; a cell that fails is None.

    axes: pairs of an option and its values as typed.
    """
    typed = []
    for option, values in axes:
        listed = [option.type(value) for value in values]
        if option.confirm:
            option.confirm(p, listed)
        typed.append([(option, value) for value in listed])
    cells = []
    for combination in itertools.product(*typed):
        each = copy.copy(p)
        for option, value in combination:
            option.apply(each, value, [])
        try:
            processed = processing.process_images(each)
            picture, text = processed.images[0], processed.infotexts[0]
        except Exception:  # the hosts print it, and leave the cell blank
            processed, picture, text = None, None, ""
        legend = [option.format_value(p, option, value) for option, value in combination]
        cells.append(SimpleNamespace(image=picture, text=text, legend=legend, processed=processed, p=each))
    return cells
