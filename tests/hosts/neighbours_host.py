"""A1111's miniature with the double of ControlNet as an extension beside ours, and a way to ask it for pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi.testclient import TestClient

from demo.miniwebui import host as miniature
from tests.golden.cases import HOST_REQUEST, SETTING_KEYS, choose_key
from tests.golden.making import as_array
from tests.hosts.controlnet_double import make_unit
from tests.hosts.controlnet_script import CONTROLNET_CLASS

EXTENSION = (
    """
from tests.hosts.controlnet_double import Hook

units, hooks = [], []
"""
    + CONTROLNET_CLASS
    + """
    def process(self, p, *args):
        if self.latest_network is not None:
            self.latest_network.restore()
        self.latest_network = None
        if units:
            self.latest_network = Hook(p.sd_model.model.diffusion_model, list(units))
            self.latest_network.attach(p)
            hooks.append(self.latest_network)

    def postprocess(self, p, processed, *args):
        if self.latest_network is not None:
            self.latest_network.restore()
            self.latest_network = None
"""
)


def boot(models: Path, folder: Path) -> miniature.Host:
    """folder: where the double is written; the hosts' extensions lie in one of this name."""
    scripts = folder / "extensions/sd-webui-controlnet/scripts"
    scripts.mkdir(parents=True)
    (scripts / "controlnet.py").write_text(EXTENSION, encoding="utf-8")
    return miniature.boot(models, [miniature.REPOSITORY, scripts.parent])


def double() -> Any:
    """The double's module: `units` are put in use by a test, `hooks` are those of its requests."""
    from modules import scripts

    module = next(data.module for data in scripts.scripts_data if "controlnet" in data.path)
    module.units.clear()
    module.hooks.clear()
    return module


def use(module: Any, side: int, *kinds: str) -> None:
    """Put units in use; their control picture is noise of that many px a side."""
    hint = torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(5))
    module.units[:] = [make_unit(kind, hint) for kind in kinds]


def asker(host: miniature.Host, person: dict[str, Any], **defaults: Any) -> Callable:
    """ask(identity settings by neutral names, or None, **host's request) -> (pictures, reports, comments).

    person: whose face, in the API's own keys.
    """
    known = frozenset(TestClient(host.app).get("/beyondfacial/v1/schema").json()["properties"])

    def ask(identity: dict | None = None, **request: Any) -> tuple[np.ndarray, list, str]:
        payload = {**HOST_REQUEST, "sampler_name": "Euler", **defaults, **request}
        if identity is not None:
            named = {choose_key(key, SETTING_KEYS, known): value for key, value in identity.items()}
            payload["alwayson_scripts"] = {"BeyondFacial": {"args": [{"enabled": True, **person, **named}]}}
        processed = host.api.run_txt2img(payload)
        info = json.loads(processed.js())["extra_generation_params"]
        return as_array(processed.images), info.get("BeyondFacial report", []), processed.comments

    return ask


def function_of(extension: str, source: str, name: str = "hook", **names: Any) -> Any:
    """A function as an extension's file defines it."""
    code = compile(source, f"/webui/extensions/{extension}/scripts/part.py", "exec")
    exec(code, names)
    return names[name]
