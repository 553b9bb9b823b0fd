"""Starts the host in this process: `host = boot(models_dir, extensions=[...])`, then `host.txt2img(prompt=...)`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from demo.sd1 import prompts
from demo.sd1.model import load_model

from . import basics, denoiser, processing, samplers, script_callbacks, scripts, shared

REPOSITORY = Path(__file__).parents[2]
XYZ_GRID = Path(__file__).with_name("xyz_grid.py")  # the host's own selectable script
IMPORT_NAMES = {
    basics: "errors paths devices rng images",
    denoiser: "sd_samplers_cfg_denoiser",
    processing: "processing",
    prompts: "prompt_parser sd_hijack_clip",
    samplers: "sd_samplers sd_samplers_common sd_samplers_kdiffusion sd_samplers_timesteps",
    script_callbacks: "script_callbacks",
    scripts: "scripts",
    shared: "shared",
}


def install_import_names() -> None:
    """Makes `modules.*` importable under A1111's names."""
    from . import api, ui_components

    package = sys.modules["modules"] = ModuleType("modules")
    package.__path__ = []
    for module, aliases in (IMPORT_NAMES | {ui_components: "ui_components", api: "api api.api"}).items():
        for alias in aliases.split():
            sys.modules[f"modules.{alias}"] = module
            setattr(package, alias.split(".")[0], module)


@dataclass
class Host:
    """A booted host. `app` is its FastAPI application; `demo` its page, if one was asked for."""

    app: Any
    api: Any
    demo: Any

    def txt2img(self, **payload: Any) -> tuple[list[Any], dict[str, Any]]:
        """The API's request as keywords -> (PIL images, the parsed `info`). Errors come as they were raised."""
        processed = self.api.run_txt2img(payload)
        return processed.images, json.loads(processed.js())


def parse_flags(extensions: Sequence[Path], argv: Sequence[str]) -> argparse.Namespace:
    """The host's flags and those that extensions add in their preload.py."""
    parser = argparse.ArgumentParser(prog="python -m demo.miniwebui")
    weights = REPOSITORY / "demo/dollhouse/weights/models"
    parser.add_argument("--models-dir", type=Path, default=weights, help="folder with Stable-diffusion/ in it")
    parser.add_argument("--script", type=Path, default=REPOSITORY, help="an extension's folder, or one script of it")
    parser.add_argument("--port", type=int, default=7861)
    parser.add_argument("--outdir", type=Path, default=REPOSITORY / "demo/out", help="for what scripts save")
    parser.add_argument("--api-auth", help="user:password for the host's own API routes")
    for path in (scripts.folder_of(extension) / "preload.py" for extension in extensions):
        if path.is_file():
            scripts.load_module(path).preload(parser)
    return parser.parse_args(argv)


def boot(
    models_dir: str | Path, extensions: Sequence[str | Path] = (), page: bool = False, argv: Sequence[str] = ()
) -> Host:
    """A host with clean registries; the one booted before in this process is no longer usable."""
    from .app import build_app

    paths = [Path(extension).resolve() for extension in extensions]
    install_import_names()
    script_callbacks.clear_callbacks()
    shared.opts.data.clear()
    shared.state.__init__()
    shared.cmd_opts.__dict__ = vars(parse_flags(paths, argv))
    basics.models_path = shared.models_path = str(Path(models_dir).resolve())
    shared.sd_model = model = load_model(Path(models_dir))
    model.cond_stage_model = prompts.FrozenCLIPEmbedderWithCustomWords(model.cond_stage_model, shared.opts)
    model.cond_stage_model_empty_prompt = model.get_learned_conditioning([""])
    job = processing.StableDiffusionProcessing
    job.cached_c[:] = job.cached_uc[:] = [None, None]
    scripts.load_scripts(paths)
    scripts.scripts_txt2img, scripts.scripts_img2img = scripts.ScriptRunner(False), scripts.ScriptRunner(True)
    script_callbacks.model_loaded_callback(model)
    return Host(*build_app(page))
