"""Serves as `modules.shared`: options, flags, the progress state and the loaded model."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from typing import Any

from .basics import data_path, device, models_path, script_path  # noqa: F401

DEFAULTS: dict[str, Any] = {
    "CLIP_stop_at_last_layers": 1,
    "emphasis": "Original",
    "eta_ancestral": 1.0,
    "eta_ddim": 0.0,
}
DEFAULTS |= {"batch_cond_uncond": True, "pad_cond_uncond": False, "skip_early_cond": 0.0}
DEFAULTS |= {"s_min_uncond": 0.0, "s_min_uncond_all": False, "samples_format": "png", "live_previews_enable": False}


class OptionInfo:
    """One of the user's choices as an extension declares it."""

    def __init__(self, default: Any = None, label: str = "", *_component: Any, **_more: Any):
        self.default, self.label = default, label


class Options:
    """Attributes are the user's choices in `data`, else the defaults."""

    def __init__(self) -> None:
        self.__dict__["data"] = {}

    def set(self, key: str, value: Any, **_options: bool) -> None:
        self.data[key] = value

    def __getattr__(self, key: str) -> Any:
        if key not in self.data and key not in DEFAULTS:
            raise AttributeError(f"There is no option {key!r}.")
        return self.data.get(key, DEFAULTS.get(key))

    __setattr__ = set

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data.setdefault(key, info.default)


class State:
    """Where the running job stands; `interrupt` and `skip` are requests the denoiser looks at."""

    def __init__(self) -> None:
        self.end()
        self.job_no = self.sampling_step = self.sampling_steps = 0
        self.current_latent = self.current_image = self.textinfo = None
        self.job_timestamp, self.time_start = datetime.now().strftime("%Y%m%d%H%M%S"), time.time()

    def begin(self, job: str = "(unknown)") -> None:
        self.__init__()
        self.job, self.job_count = job, -1

    def end(self) -> None:
        self.skipped = self.interrupted = self.stopping_generation = False
        self.job, self.job_count = "", 0

    def interrupt(self) -> None:
        self.interrupted = True

    def skip(self) -> None:
        self.skipped = True

    def nextjob(self) -> None:
        self.job_no, self.sampling_step = self.job_no + 1, 0

    def assign_current_image(self, image: Any) -> None:
        self.current_image = image

    def dict(self) -> dict[str, Any]:
        keys = (
            "skipped interrupted stopping_generation job job_count job_timestamp job_no sampling_step sampling_steps"
        )
        return {key: getattr(self, key) for key in keys.split()}


opts, state = Options(), State()
cmd_opts = argparse.Namespace(api_auth=None)
sd_model: Any = None
