"""What the tests of ControlNet's face units share on both kinds of host: the request, how it is made, what it ran."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from tests.golden.making import as_array

SIDE = 64
REQUEST = {"steps": 3, "width": SIDE, "height": SIDE, "seed": 5, "prompt": "a photo of man", "sampler_name": "Euler"}
SETTINGS = {"enabled": True, "refine_head": False, "start": 0.0, "source": "ControlNet unit 0"}


def request_of(units: list[dict[str, Any]], settings: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    """A request with these units, and with the identity unless settings are None."""
    scripts = {"ControlNet": {"args": units}} if units else {}
    if settings is not None:
        scripts["BeyondFacial"] = {"args": [{**SETTINGS, **settings}]}
    return {**REQUEST, **request, "alwayson_scripts": scripts}


def ask(host: Any, units: list[dict[str, Any]], settings: dict[str, Any] | None = None, **request: Any) -> np.ndarray:
    """Its pictures."""
    return as_array(host.api.run_txt2img(request_of(units, settings, **request)).images)


@contextmanager
def outputs_of(unet: nn.Module) -> Iterator[list[Tensor]]:
    """Within it, the output of every call of the UNet is collected, in order."""
    outs: list[Tensor] = []
    handle = unet.out.register_forward_hook(lambda module, args, out: outs.append(out.detach().clone()))
    try:
        yield outs
    finally:
        handle.remove()
