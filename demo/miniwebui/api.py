"""Serves as `modules.api.api`: the part of A1111's HTTP API that a client needs for txt2img."""

from __future__ import annotations

import time
from secrets import compare_digest
from threading import Lock
from typing import Any, get_type_hints

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import create_model

from . import basics, processing, samplers, scripts, shared

queue_lock = Lock()
JOB, HINTS = processing.StableDiffusionProcessing, get_type_hints(processing.StableDiffusionProcessing)
JOB_FIELDS = """prompt negative_prompt seed sampler_name scheduler batch_size n_iter steps cfg_scale width height eta
    s_min_uncond enable_hr override_settings"""
TXT2IMG_FIELDS = {
    "sampler_index": (str | None, None),
    "alwayson_scripts": (dict | None, None),
    "send_images": (bool, True),
}
_SHARED = {key: (HINTS[key] | None, getattr(JOB, key, None)) for key in JOB_FIELDS.split()}
Txt2ImgRequest = create_model("Txt2ImgRequest", **_SHARED, **TXT2IMG_FIELDS)  # unknown keys are ignored, as in A1111


def handle_exception(request: Request, error: Exception) -> JSONResponse:
    content = {"error": type(error).__name__, "errors": str(error), "body": getattr(error, "body", "")}
    if not isinstance(error, HTTPException):
        basics.report(f"API error: {request.method}: {request.url} {content}", exc_info=True)
    return JSONResponse(content | {"detail": getattr(error, "detail", "")}, getattr(error, "status_code", 500))


def run_job(script_args: tuple, **fields: Any) -> processing.Processed:
    """One at a time."""
    with queue_lock:
        p = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **fields)
        p.outpath_samples = str(shared.cmd_opts.outdir)
        shared.state.begin(job="txt2img")
        try:
            p.scripts, p.script_args = scripts.scripts_txt2img, script_args
            p.scripts.setup(p)
            return p.scripts.run(p, *script_args) or processing.process_images(p)
        finally:
            shared.state.end()
            p.close()


class Api:
    """Routes added through `add_api_route` ask for --api-auth's password; others of the application do not."""

    def __init__(self, app: FastAPI):
        self.app = app
        self.credentials = dict(pair.split(":", 1) for pair in (shared.cmd_opts.api_auth or "").split(",") if pair)
        app.add_exception_handler(HTTPException, handle_exception)

        @app.middleware("http")
        async def exception_handling(request: Request, call_next: Any) -> Any:
            try:
                return await call_next(request)
            except Exception as error:
                return handle_exception(request, error)

        for name in ("progress", "options", "samplers", "sd_models", "scripts", "script_info"):
            self.add_api_route(f"/sdapi/v1/{name.replace('_', '-')}", getattr(self, f"get_{name}"), methods=["GET"])
        posts = {"txt2img": self.text2imgapi, "options": self.set_options}
        posts |= {"interrupt": shared.state.interrupt, "skip": shared.state.skip}
        for name, endpoint in posts.items():
            self.add_api_route(f"/sdapi/v1/{name}", endpoint, methods=["POST"])
        self.default_script_args = scripts.scripts_txt2img.default_args()

    def add_api_route(self, path: str, endpoint: Any, **kwargs: Any) -> None:
        if self.credentials:
            kwargs["dependencies"] = [Depends(self.auth)]
        self.app.add_api_route(path, endpoint, **kwargs)

    def auth(self, credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> bool:  # noqa: B008  FastAPI's way
        password = self.credentials.get(credentials.username)
        if password is not None and compare_digest(credentials.password.encode(), password.encode()):
            return True
        raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    def script_args(self, requested: dict[str, Any]) -> tuple[Any, ...]:
        """The ui() defaults, and over them the request's arguments as far as the script has places for them."""
        args = list(self.default_script_args)
        titles = {script.title().lower(): script for script in scripts.scripts_txt2img.scripts}
        for title, content in requested.items():
            script = titles.get(title.lower())
            if script is None:
                raise HTTPException(422, f"Script '{title}' not found")
            given = content.get("args", [])
            for i in range(min(script.args_to - script.args_from, len(given))):
                args[script.args_from + i] = given[i]
        return tuple(args)

    def run_txt2img(self, payload: dict[str, Any]) -> processing.Processed:
        request = Txt2ImgRequest(**payload)
        fields = {key: getattr(request, key) for key in JOB_FIELDS.split()}
        fields["sampler_name"] = payload.get("sampler_name") or request.sampler_index or JOB.sampler_name
        if fields["sampler_name"] not in samplers.all_samplers_map:
            raise HTTPException(400, "Sampler not found")
        fields = {key: value for key, value in fields.items() if value is not None}
        return run_job(self.script_args(request.alwayson_scripts or {}), is_api=True, **fields)

    def text2imgapi(self, request: Txt2ImgRequest) -> dict[str, Any]:
        processed = self.run_txt2img(vars(request))
        images = [basics.encode_pil_to_base64(image) for image in processed.images] if request.send_images else []
        return {"images": images, "parameters": vars(request), "info": processed.js()}

    def get_progress(self) -> dict[str, Any]:
        state, progress, eta = shared.state, 0.0, 0.0
        if state.job_count:
            done = state.job_no + state.sampling_step / max(state.sampling_steps, 1)
            progress = min(0.01 + done / abs(state.job_count), 1.0)
            eta = (time.time() - state.time_start) * (1 / progress - 1)
        image = state.current_image and basics.encode_pil_to_base64(state.current_image)
        answer = {"progress": progress, "eta_relative": eta, "state": state.dict()}
        return {**answer, "current_image": image, "textinfo": state.textinfo}

    def get_options(self) -> dict[str, Any]:
        return shared.DEFAULTS | shared.opts.data

    def set_options(self, request: dict[str, Any]) -> None:
        shared.opts.data.update(request)

    def get_samplers(self) -> list[dict]:
        return [{"name": s.name, "aliases": s.aliases, "options": s.options} for s in samplers.all_samplers]

    def get_sd_models(self) -> list[dict]:
        info = shared.sd_model.sd_checkpoint_info
        names = {"title": info.title, "model_name": info.name_for_extra, "filename": info.filename}
        return [{**names, "hash": info.shorthash, "sha256": None, "config": None}]

    def get_scripts(self) -> dict[str, list]:
        runners = {"txt2img": scripts.scripts_txt2img, "img2img": scripts.scripts_img2img}
        return {
            tab: [script.name for script in (*runner.scripts, *runner.selectable_scripts)]
            for tab, runner in runners.items()
        }

    def get_script_info(self) -> list[dict]:
        runners = (scripts.scripts_txt2img, scripts.scripts_img2img)
        listed = [script for runner in runners for script in (*runner.scripts, *runner.selectable_scripts)]
        return [script.api_info for script in listed if script.api_info]
