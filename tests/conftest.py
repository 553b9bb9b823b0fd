"""What every test finds: torch on few threads, hypothesis without deadlines (shared machines are slow at times)."""

from __future__ import annotations

import os

import hypothesis
import torch

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")

torch.set_num_threads(min(2, os.cpu_count() or 1))
hypothesis.settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("house")
