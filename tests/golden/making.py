"""Requests made on both hosts, and what comes back: pictures, masks and numbers."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fastapi.testclient import TestClient
from PIL import Image

from demo.miniwebui.host import REPOSITORY, Host, boot
from tests.forge_double.host import booted

from .cases import CASES, PLAIN, REPORT_KEYS, Case, choose_key, payload_of

MODELS = REPOSITORY / "demo/dollhouse/weights/models"
FAULT_STEP = 3
ENCODES_PER_HEAD = 3  # its crop, the picture with the new head in it, and that picture through the autoencoder


@dataclass
class Result:
    """What a case gave.

    pictures: (N, H, W, 3) uint8, with a plain picture behind those of a fault. masks: (N, H, W) uint8.
    numbers: per picture or per request; a similarity without a face is NaN.
    """

    pictures: np.ndarray
    masks: np.ndarray
    numbers: dict[str, np.ndarray] = field(default_factory=dict)


class FaultError(Exception):
    """Raised in the UNet on purpose."""


@dataclass
class Watch:
    """The host's own networks during one request.

    The start's encoding comes before the noise level has fallen; later encodings are the head refinement's.
    """

    fault: str = ""
    first: float | None = None
    latest: float | None = None
    late_encodes: int = 0
    calls_since_fault_step: int = 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        from modules import shared

        model = shared.sd_model
        unet = model.forge_objects.unet.model if hasattr(model, "forge_objects") else model.model
        handles = [
            unet.diffusion_model.register_forward_pre_hook(self.note_unet),
            model.first_stage_model.encoder.register_forward_pre_hook(self.note_encoder),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def note_unet(self, _unet: torch.nn.Module, args: tuple) -> None:
        from modules import shared

        self.latest = float(args[1].max())
        self.first = self.latest if self.first is None else self.first
        self.calls_since_fault_step += shared.state.sampling_step >= FAULT_STEP
        if self.fault == "interrupt" and self.calls_since_fault_step == 1:
            shared.state.interrupt()
        if self.fault == "exception" and self.calls_since_fault_step == 2:
            raise FaultError

    def note_encoder(self, _encoder: torch.nn.Module, args: tuple) -> None:
        if self.first is not None and self.latest < self.first:
            self.late_encodes += len(args[0])


@dataclass
class Maker:
    """One booted host."""

    host: Host
    known: frozenset[str]
    plain: np.ndarray | None = None

    @classmethod
    def of(cls, host: Host) -> Maker:
        schema = TestClient(host.app).get("/beyondfacial/v1/schema").json()
        return cls(host, frozenset(schema["properties"]))

    def make(self, case: Case) -> Result:
        """A case's result; with a fault, also whether the plain picture behind it is the one before it."""
        if case == PLAIN or (case.fault and self.plain is None):
            plain = self.request(PLAIN)
            self.plain = plain.pictures
        if not case.fault:
            return plain if case == PLAIN else self.request(case)
        result, again = self.request(case), self.request(PLAIN).pictures
        result.pictures = again if result.numbers["failed"] else np.concatenate([result.pictures, again])
        result.numbers["plain_unchanged"] = np.array([np.array_equal(again, self.plain)], float)
        return result

    def request(self, case: Case) -> Result:
        watch, payload = Watch(case.fault), payload_of(case, self.known)
        with watch.attached():
            try:
                processed = self.host.api.run_txt2img(payload)
            except Exception:
                if case.fault != "exception":
                    traceback.print_exc()
                return Result(as_array([]), as_array([])[..., 0], {"failed": np.ones(1)})
        count = case.host.get("batch_size", 1)
        pictures, masks = as_array(processed.images[:count]), as_array(processed.images[count:])[..., 0]
        if case.identity is None:
            return Result(pictures, masks)
        numbers = read_reports(json.loads(processed.js()))
        numbers["failed"] = np.zeros(1)
        numbers["warnings"] = np.array([len(processed.comments.splitlines())], float)
        numbers["heads_refined"] = np.array([watch.late_encodes / ENCODES_PER_HEAD])
        return Result(pictures, masks, numbers)


def as_array(images: list[Image.Image]) -> np.ndarray:
    """(N, H, W, 3) uint8."""
    return np.stack([np.asarray(image.convert("RGB")) for image in images]) if images else np.zeros((0, 1, 1, 3), "u1")


def read_reports(info: dict[str, Any]) -> dict[str, np.ndarray]:
    """The numbers of the answer's report, one array a number."""
    reports = info["extra_generation_params"]["BeyondFacial report"]
    numbers = {}
    for name in REPORT_KEYS:
        values = [report[choose_key(name, REPORT_KEYS, report)] for report in reports]
        numbers[name] = np.array([np.nan if value is None else value for value in values], float)
    return numbers


def make_all(wanted: set[tuple[str, str]] | None = None) -> Iterator[tuple[tuple[str, str], Result]]:
    """((host, case's name), result) of all cases on both hosts, or of the wanted ones."""
    for name in ("a1111", "forge"):
        cases = [case for case in CASES if wanted is None or (name, case.name) in wanted]
        with ExitStack() as stack:
            if not cases:
                continue
            if name == "a1111":
                maker = Maker.of(boot(MODELS, [REPOSITORY]))
            else:
                maker = Maker.of(stack.enter_context(booted(MODELS, [REPOSITORY])).host)
            for case in cases:
                yield (name, case.name), maker.make(case)
