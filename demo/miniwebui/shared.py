"""Serves as `modules.shared`: options, flags, the progress state and the loaded model."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from typing import Any

from .basics import cpu as device  # noqa: F401
from .basics import data_path, models_path, script_path  # noqa: F401

DEFAULTS: dict[str, Any] = {
    "CLIP_stop_at_last_layers": 1,
    "batch_cond_uncond": True,
    "emphasis": "Original",
    "enable_pnginfo": True,
    "eta_ancestral": 1.0,
    "eta_ddim": 0.0,
    "live_previews_enable": False,
    "pad_cond_uncond": False,
    "pad_cond_uncond_v0": False,
    "randn_source": "CPU",
    "return_grid": True,
    "s_min_uncond": 0.0,
    "s_min_uncond_all": False,
    "samples_format": "png",
    "sd_model_checkpoint": "",
    "skip_early_cond": 0.0,
}


class OptionInfo:
    def __init__(self, default: Any = None, label: str = "", *_args: Any, **_kwargs: Any):
        self.default, self.label = default, label

    def info(self, _text: str) -> OptionInfo:
        return self

    needs_reload_ui = needs_restart = html = link = lambda self, *_args: self


class Options:
    """Attribute access to the user's choices in `data`, else to the defaults; `restart` forgets both."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.__dict__.update(data={}, data_labels={key: OptionInfo(value, key) for key, value in DEFAULTS.items()})

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info

    def get_default(self, key: str) -> Any:
        return self.data_labels[key].default if key in self.data_labels else None

    def set(self, key: str, value: Any, is_api: bool = False, run_callbacks: bool = True) -> bool:
        self.data[key] = value
        return True

    def __getattr__(self, key: str) -> Any:
        if key in self.__dict__["data"]:
            return self.__dict__["data"][key]
        if key in self.__dict__["data_labels"]:
            return self.__dict__["data_labels"][key].default
        raise AttributeError(f"There is no option {key!r}.")

    def __setattr__(self, key: str, value: Any) -> None:
        self.data[key] = value


class State:
    """Where the running job stands; `interrupt` and `skip` are requests the denoiser looks at."""

    def __init__(self) -> None:
        self.skipped = self.interrupted = self.stopping_generation = self.processing_has_refined_job_count = False
        self.job_no = self.job_count = self.sampling_step = self.sampling_steps = self.id_live_preview = 0
        self.job, self.job_timestamp, self.time_start = "", "0", time.time()
        self.current_latent = self.current_image = self.textinfo = None

    def begin(self, job: str = "(unknown)") -> None:
        self.__init__()
        self.job, self.job_count, self.job_timestamp = job, -1, datetime.now().strftime("%Y%m%d%H%M%S")

    def end(self) -> None:
        self.job, self.job_count = "", 0

    def interrupt(self) -> None:
        self.interrupted = True

    def skip(self) -> None:
        self.skipped = True

    def nextjob(self) -> None:
        self.job_no, self.sampling_step = self.job_no + 1, 0

    def assign_current_image(self, image: Any) -> None:
        self.current_image, self.id_live_preview = image, self.id_live_preview + 1

    def dict(self) -> dict[str, Any]:
        keys = "skipped interrupted stopping_generation job job_count job_timestamp job_no sampling_step sampling_steps"
        return {key: getattr(self, key) for key in keys.split()}


opts, state = Options(), State()
cmd_opts = argparse.Namespace(api_auth=None)
sd_model: Any = None
