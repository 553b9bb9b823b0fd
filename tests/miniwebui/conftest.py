"""A host with random weights, and an extension that only watches and does what a test tells it to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("gradio")
from demo.miniwebui.host import Host, boot
from tests.random_model import write_random_model

torch.set_num_threads(1)
PROBE = """
import gradio as gr
from modules import script_callbacks, scripts

log = []        # names of the methods and callbacks, in the order of their calls
records = {}       # name -> list of (args, kwargs)
act = {}        # name -> what the test wants done there

def note(name, *args, **kwargs):
    log.append(name)
    records.setdefault(name, []).append((args, kwargs))
    if name in act:
        act[name](*args, **kwargs)

class Probe(scripts.Script):
    def title(self):
        return "The Probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Checkbox(False, label="On"), gr.Slider(0, 3, 1.5, step=0.5, label="How much"),
                gr.Dropdown(["a", "b"], value="a", label="Which")]

def method(name):
    return lambda self, p, *args, **kwargs: note(name, p, *args, **kwargs)

for name in ("setup before_process process before_process_batch after_extra_networks_activate process_batch"
             " process_before_every_sampling post_sample postprocess_batch postprocess_batch_list postprocess_image"
             " postprocess_maskoverlay postprocess_image_after_composite postprocess").split():
    setattr(Probe, name, method(name))
for name in ("cfg_denoiser", "cfg_denoised", "cfg_after_cfg"):
    getattr(script_callbacks, f"on_{name}")(lambda params, name=name: note(name, params))
"""
REQUEST = {"prompt": "photo of a man", "steps": 3, "width": 64, "height": 64, "seed": 7, "sampler_name": "Euler"}


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder)
    return folder


@pytest.fixture(scope="session")
def probe_extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extension")
    (folder / "scripts").mkdir()
    (folder / "scripts" / "probe.py").write_text(PROBE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def host(models_dir: Path, probe_extension: Path) -> Host:
    return boot(models_dir, [probe_extension])


@pytest.fixture
def probe(host: Host) -> Any:
    """The extension's module: `log`, `records`, `act`."""
    from modules import scripts

    module = scripts.scripts_data[0].module
    for record in (module.log, module.records, module.act):
        record.clear()
    return module


@pytest.fixture
def generate(host: Host, probe: Any) -> Any:
    """Runs REQUEST with changes; gives the pictures' bytes."""
    return lambda **changes: [image.tobytes() for image in host.txt2img(**(REQUEST | changes))[0]]
