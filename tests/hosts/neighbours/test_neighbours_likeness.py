"""Dollhouse's own model beside other extensions on A1111's miniature: a broken head would be seen here."""

from __future__ import annotations

import pytest
import torch

from tests.golden.cases import photos
from tests.golden.making import MODELS
from tests.hosts import neighbours_host
from tests.hosts.controlnet_double import KINDS
from tests.hosts.neighbours_host import function_of, use

SIDE = 192
FORMS = {"one": {}, "batch of 2": {"batch_size": 2}, "DDIM": {"sampler_name": "DDIM"}}
HALVING = """
def seg_to_q_hook(module, args, output):
    cond, uncond = output.chunk(2)
    return torch.cat([cond, uncond.mean(1, keepdim=True).expand_as(uncond)])
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return neighbours_host.boot(MODELS, tmp_path_factory.mktemp("webui"))


@pytest.fixture
def neighbour(host):
    module = neighbours_host.double()
    yield module
    module.units.clear()


@pytest.fixture
def unet(host):
    from modules import shared

    return shared.sd_model.model.diffusion_model


@pytest.fixture(scope="module")
def likeness(host):
    """likeness(form): the least similarity of its pictures now."""
    ask = neighbours_host.asker(host, {"references": list(photos(1))}, steps=8)

    def likeness(form):
        reports = ask({"refine": True, "start_identity": 0.5}, **FORMS[form])[1]
        return min(-1.0 if report["similarity"] is None else report["similarity"] for report in reports)

    return likeness


@pytest.fixture(scope="module")
def without(likeness):
    """The same without a neighbour, each form once."""
    return {form: likeness(form) for form in FORMS}


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *((kind, "one") for kind in KINDS),
        ("reference", "batch of 2"),
        ("ip_adapter", "batch of 2"),
        ("structural", "DDIM"),
    ],
)
def test_a_unit_beside_us_keeps_the_likeness(likeness, neighbour, without, kind, form):
    use(neighbour, SIDE, kind)
    assert likeness(form) > without[form] - 0.1


@pytest.mark.parametrize("form", ["one", "batch of 2"])
def test_row_splitting_hook_gets_only_the_hosts_rows(likeness, unet, without, form):
    hook = function_of("sd-webui-incantations", HALVING, "seg_to_q_hook", torch=torch)
    middle = next(m for name, m in unet.named_modules() if "middle" in name and name.endswith("attn1"))
    handle = middle.to_q.register_forward_hook(hook)
    try:
        beside = likeness(form)
    finally:
        handle.remove()
    assert beside > without[form] - 0.1
