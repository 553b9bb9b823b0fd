"""Beside other extensions on A1111's miniature: whose rows, marks and patches a model call of ours meets.

What becomes of the likeness is in test_neighbours_likeness.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fastapi import HTTPException

from tests.hosts.controlnet_double import KINDS
from tests.hosts.neighbours_host import function_of, use

SIDE = 64


def test_controlnet_marks_all_rows_of_a_call_or_none(ask, neighbour):
    use(neighbour, SIDE, "structural")
    ask({"identity_prompt": "{prompt}, red hair"}, batch_size=2)
    marks = [calls.marks for calls in neighbour.hooks[0].calls]
    assert None not in marks
    assert (1, 1) in marks, "the identity line's own call, as two conds"
    assert (1, 1, 0, 0) in marks, "the host's"


def test_a_structural_unit_is_not_hidden_from_the_identity_line(ask, neighbour):
    use(neighbour, SIDE, "structural")
    ask({"start_identity": 0.0}, steps=4)
    rows = [calls.rows for calls in neighbour.hooks[0].calls]
    assert rows.count(1) > 0
    assert rows.count(2) == 4


@pytest.mark.parametrize("kind", ["reference", "colorfix", "ip_adapter"])
def test_a_unit_that_fixes_the_batch_sees_the_hosts_rows_alone(ask, neighbour, kind):
    use(neighbour, SIDE, kind)
    ask({"start_identity": 0.0, "identity_prompt": "{prompt}, red hair"}, batch_size=2, steps=4)
    calls = neighbour.hooks[0].calls
    assert {each.marks for each in calls} == {(1, 1, 0, 0)}
    assert len(calls) > 4, "the identity line is among them"


def test_the_rows_that_a_units_layout_costs_are_counted(ask, neighbour, monkeypatch):
    from lib_beyondfacial.hosts import request

    runs, original = [], request.begin
    monkeypatch.setattr(request, "begin", lambda *a: runs.append(original(*a)) or runs[-1])
    identity = {"start_identity": 0.0}
    ask(identity, steps=4)
    use(neighbour, SIDE, "reference")
    ask(identity, steps=4)
    alone, beside = (run.report.identity_rows for run in runs)
    assert beside == 2 * alone > 0


def test_the_reference_picture_is_neither_read_nor_given_a_face(ask, neighbour, unet):
    """Its call lies within the picture's: our hooks would take its attention for the picture's."""
    use(neighbour, SIDE, "reference")
    found, site = [], next(m for name, m in unet.named_modules() if name.endswith("attn2"))

    def count_hooks(module, args):
        from lib_beyondfacial.hosts.extensions import is_ours

        hooks = [h for m in unet.modules() for h in [*m._forward_hooks.values(), *m._forward_pre_hooks.values()]]
        found.append((neighbour.hooks[-1].writes, sum(map(is_ours, hooks))))

    handle = site.to_v.register_forward_pre_hook(count_hooks)
    try:
        ask({})
    finally:
        handle.remove()
    assert {count for writes, count in found if writes} == {0}
    assert max(count for writes, count in found if not writes) > 0


def test_look_ahead_leaves_units_and_random_state_unchanged(ask, neighbour):
    """The same reference picture in all that the host draws: with a mask of nothing the picture is the neighbour's."""
    use(neighbour, SIDE, "reference")
    torch.manual_seed(3)
    plain = ask(batch_size=2)[0]
    use(neighbour, SIDE, "reference")
    torch.manual_seed(3)
    found = ask({"start_identity": 1e-6, "weight": 1e-6}, batch_size=2)[0][:2]
    assert np.abs(plain.astype(int) - found).max() <= 3


@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_early_failure_leaves_no_mark_in_the_hosts_cache(ask, neighbour, monkeypatch, order):
    from modules import scripts

    if order == "ours last":
        runner = scripts.scripts_txt2img
        monkeypatch.setattr(runner, "scripts", runner.scripts[::-1])
    plain = ask()[0]
    use(neighbour, SIDE, "structural")
    with pytest.raises(HTTPException):
        ask({"weight": 99.0})
    neighbour.units.clear()
    assert np.array_equal(ask()[0], plain)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_request_is_unchanged_after_an_error(ask, neighbour, monkeypatch, kind):
    from lib_beyondfacial.sampling.sampling_pass import SamplingPass

    plain = ask()[0]
    use(neighbour, SIDE, kind)
    with monkeypatch.context() as broken:
        broken.setattr(SamplingPass, "delta", lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            ask({})
    assert (
        raised.value.detail == "BeyondFacial: internal error (ZeroDivisionError: division by zero), see the console."
    )
    neighbour.units.clear()
    assert np.array_equal(ask()[0], plain)


def test_an_error_of_an_extension_in_the_identitys_call_names_it(ask, unet):
    source = "def hook(module, args):\n    if len(args[0]) == 1:\n        raise ValueError('rows of /home/me/x')"
    handle = unet.register_forward_pre_hook(function_of("sd-webui-other", source))
    try:
        with pytest.raises(HTTPException) as raised:
            ask({"start_identity": 0.0})
    finally:
        handle.remove()
    assert '"sd-webui-other"' in raised.value.detail
    assert "ValueError: rows of ..." in raised.value.detail
    assert "/home" not in raised.value.detail


def test_error_in_our_hook_fails_with_a_message(ask, monkeypatch):
    from lib_beyondfacial.unet import probe

    monkeypatch.setattr(probe, "compute_margin", lambda *a: 1 / 0)
    with pytest.raises(HTTPException) as raised:
        ask({"start_identity": 0.0})
    assert "ZeroDivisionError" in raised.value.detail
