"""What ControlNet's own fields of a unit mean to us: which pictures, which pass, how strongly, on which device."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.hosts.a1111 import identity_units as a1111
from lib_beyondfacial.hosts.a1111.identity_units import count_params, opened, scales_of
from lib_beyondfacial.hosts.forge.identity_units import acts_in_pass
from lib_beyondfacial.hosts.identity_units import find_given, mode_of
from lib_beyondfacial.unet.rows import LineRows


class InputMode(Enum):
    """As both ControlNets have it."""

    SIMPLE, BATCH, MERGE = "simple", "batch", "merge"


def job(unit) -> SimpleNamespace:
    script = SimpleNamespace(title=lambda: "ControlNet", args_from=0, args_to=1)
    return SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[script]), script_args=[unit])


@pytest.mark.parametrize("mode", [InputMode.MERGE, "merge", "InputMode.MERGE"])
def test_a_tab_is_told_as_enum_or_text(mode):
    assert mode_of({"input_mode": mode}) == "merge"
    assert mode_of({}) == "simple"


@pytest.mark.parametrize(
    ("more", "tab"),
    [
        ({"input_mode": InputMode.MERGE, "batch_input_gallery": ["a.png"]}, "Multi-Inputs"),
        ({"input_mode": "batch", "batch_image_dir": "/pictures"}, "Batch"),
    ],
)
def test_a_unit_whose_pictures_are_not_its_image_is_refused(more, tab):
    """Else the face that is drawn would be one, and the face that is measured another."""
    with pytest.raises(BeyondFacialError, match=f'from its tab "{tab}"'):
        find_given(job({"enabled": True, "image": "left over", **more}), 0, True)


def test_several_pictures_in_the_image_are_taken():
    given = find_given(
        job({"enabled": True, "input_mode": "merge", "image": [{"image": "a"}, {"image": "b"}]}), 0, True
    )
    assert given.images == ("a", "b")


def test_a_unit_of_several_pictures_counts_as_several():
    pictures = [{"image": 1}, {"image": 2}, {"image": 3}]
    canny = SimpleNamespace(input_mode=InputMode.MERGE, image=pictures, accepts_multiple_inputs=False)
    face = SimpleNamespace(input_mode=InputMode.MERGE, image=pictures, accepts_multiple_inputs=True)
    assert [count_params(unit) for unit in (canny, face, {"image": "a"})] == [3, 1, 1]


@pytest.mark.parametrize(
    ("option", "passes"),
    [(0, (True, True)), (1, (True, False)), (2, (False, True)), ("Low res only", (True, False)), (7, (True, True))],
)
def test_a_hires_option_is_a_number_or_a_text(option, passes):
    acting = (
        acts_in_pass({"hr_option": option}, SimpleNamespace(enable_hr=True, is_hr_pass=n)) for n in (False, True)
    )
    assert tuple(acting) == passes


def net(**fields) -> SimpleNamespace:
    return SimpleNamespace(**{"weight": 0.8, "soft_injection": False, "advanced_weighting": None, **fields})


def test_a_nets_scales_are_controlnets():
    assert scales_of(net(), 3) == [0.8] * 3
    soft = [0.8 * 0.825 ** float(12 - i) for i in range(13)][:10]
    assert scales_of(net(soft_injection=True), 10) == pytest.approx(soft)
    assert scales_of(net(soft_injection=True, advanced_weighting=[0.1, 0.2]), 2) == [0.1, 0.2]


def test_likeness_scales_a_nets_own_weights_too():
    found, given = SimpleNamespace(is_open=False), net(advanced_weighting=[0.5, 1.0])
    with opened(found, given, LineRows.one_each(1), 0.5):
        assert (given.weight, given.advanced_weighting, found.is_open) == (0.4, [0.25, 0.5], True)
    assert (given.weight, given.advanced_weighting, found.is_open) == (0.8, [0.5, 1.0], False)


@pytest.mark.parametrize("low_vram", [True, False])
def test_with_low_vram_a_net_goes_to_the_cpu_and_never_moves_whole(low_vram, monkeypatch):
    """ControlNet has given it hooks that move one module after the other."""
    moves, order = [], []

    class Net(nn.Module):
        def to(self, device):
            moves.append(str(device))
            order.append("move")
            return self

        def forward(self, x, **_):
            order.append("call")
            return [x]

    kept = {}

    def attach_control(unet, rows, residuals):
        kept["residuals"] = residuals
        return torch.no_grad()

    monkeypatch.setattr(a1111, "attach_control", attach_control)
    face = SimpleNamespace(eval=lambda mark: torch.zeros(1, 2, 3))
    given = net(control_model=Net(), control_context_override=face)
    where = LineRows(slice(0, 1), (0,), (1.0,), True, (None,))
    found = SimpleNamespace(unet=None, low_vram=low_vram)
    with a1111.on_crop(found, given, where, 1.0):
        kept["residuals"](torch.ones(1, 4, 8, 8), torch.zeros(1), None)
    assert moves == ["cpu"], "with low_vram behind the call, else before it, to where the crop is"
    assert order == (["call", "move"] if low_vram else ["move", "call"])
