"""The share of more UNet work in the line of a run, against the rows that were computed; the same on each host."""

from __future__ import annotations

import pytest

from lib_beyondfacial.hosts.run import Run
from lib_beyondfacial.webui.run_report import cost_lines

REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5, "sampler_name": "Euler"}
UNIT = {"enabled": True, "adapter": "fits", "start": 0.0, "refine_head": False}


@pytest.fixture
def line_of(any_host, photo, monkeypatch):
    """line_of(**request) -> the line about the cost."""
    reports, release = [], Run.release

    def keeping(run):
        reports.append(run.report)
        return release(run)

    monkeypatch.setattr(Run, "release", keeping)

    def line_of(**request):
        unit = {**UNIT, "references": [photo]}
        any_host.txt2img(**{**REQUEST, **request, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}})
        (line,) = cost_lines(reports[-1])
        return line

    return line_of


def test_one_row_more_beside_two(line_of):
    assert "50% more" in line_of(cfg_scale=7.0)
    assert "50% more" in line_of(cfg_scale=7.0, batch_size=2)


def test_at_cfg_one_the_hosts_own_rows_are_counted(line_of, any_host):
    """A1111 computes its uncond row all the same, Forge does not."""
    from modules import shared

    is_forge = hasattr(shared.sd_model, "forge_objects")
    assert ("100% more" if is_forge else "50% more") in line_of(cfg_scale=1.0)
