"""The web UI that makes the pictures, over HTTP."""

from __future__ import annotations

import base64
import io
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import requests
from PIL import Image

TIMEOUT_S = 1800


@dataclass(eq=False)
class Made:
    """One picture. mask: grey, where the identity acted, if it was asked for. seconds: from request to answer."""

    image: np.ndarray
    mask: np.ndarray | None
    warnings: list[str]
    seconds: float


@dataclass
class WebUI:
    """auth: user and password of --api-auth."""

    url: str
    auth: tuple[str, str] | None = None
    _session: requests.Session = field(default_factory=requests.Session)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON; SystemExit with a sentence where there is none."""
        address, ask = f"{self.url.rstrip('/')}{path}", self._session.get if body is None else self._session.post
        try:
            answer = ask(address, **({} if body is None else {"json": body}), auth=self.auth, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise SystemExit(
                f"{self.url} does not answer ({type(error).__name__}); start the web UI with --api, then run the same "
                "again: it goes on where it stopped."
            ) from error
        if answer.status_code != 200:
            raise SystemExit(f"{path} answers {answer.status_code}: {detail_of(answer)}")
        return answer.json()

    def facts(self) -> dict[str, Any]:
        """What decides what the pictures are, beside the request: the checkpoint, and the extension's version."""
        options = self.call("/sdapi/v1/options")
        version = self.call("/beyondfacial/v1/version")["version"]
        return {"checkpoint": options.get("sd_model_checkpoint"), "extension": version}

    def check(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Adapter and face pack that a request with these settings would use; SystemExit with its problems."""
        answer = self.call("/beyondfacial/v1/validate", unit)
        if answer["problems"]:
            raise SystemExit("\n".join(answer["problems"]))
        return {key: answer[key] for key in ("adapter", "pack")}

    def feeding_pack(self, unit: dict[str, Any], name: str) -> str:
        """The face pack that feeds the adapter, with the hash of its recogniser; its bare name where the web UI allows
        no exports."""
        try:
            answer = self.call("/beyondfacial/v1/identities/export", {**unit, "head_crop": False})
        except SystemExit:
            return name
        return next((pack for pack in answer["parts"]["packs"] if pack.startswith(f"{name}:")), name)

    def txt2img(self, request: dict[str, Any], unit: dict[str, Any] | None) -> Made:
        """One picture; unit: the extension's settings, None without it."""
        scripts = {} if unit is None else {"BeyondFacial": {"args": [unit]}}
        began = time.perf_counter()
        answer = self.call("/sdapi/v1/txt2img", {**request, "alwayson_scripts": scripts})
        seconds = time.perf_counter() - began
        info = json.loads(answer["info"]).get("extra_generation_params", {})
        images = [decode(text) for text in answer["images"]]
        first = info.get("BeyondFacial pictures", [0])[0]
        masks = info.get("BeyondFacial masks", [])
        mask = images[masks[0]].convert("L") if masks else None
        return Made(
            np.asarray(images[first].convert("RGB")),
            None if mask is None else np.asarray(mask),
            list(info.get("BeyondFacial warnings", [])),
            seconds,
        )


def decode(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text.rpartition(",")[2])))


def detail_of(answer: requests.Response) -> str:
    """The sentence of an error's answer."""
    try:
        content = answer.json()
    except ValueError:
        return answer.text[:300]
    return str(content.get("detail") or content.get("errors") or content)[:1000]
