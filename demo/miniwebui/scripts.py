"""Serves as `modules.scripts`: loads scripts, calls the always-on ones' methods, and runs a selectable one. An
exception in a method is printed, not raised."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from dataclasses import make_dataclass
from functools import partial, partialmethod
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from . import basics as errors

AlwaysVisible = object()
METHODS = """setup before_process process before_process_batch after_extra_networks_activate process_batch
    process_before_every_sampling post_sample postprocess_batch postprocess_batch_list postprocess_image
    postprocess_maskoverlay postprocess_image_after_composite postprocess before_hr"""
PostSampleArgs = make_dataclass("PostSampleArgs", ["samples"])
PostprocessImageArgs = make_dataclass("PostprocessImageArgs", ["image"])
PostprocessBatchListArgs = make_dataclass("PostprocessBatchListArgs", ["images"])
PostProcessMaskOverlayArgs = make_dataclass(
    "PostProcessMaskOverlayArgs", ["index", "mask_for_overlay", "overlay_image"]
)


class Script:
    """The base class of an extension's script. Beside what is seen here it has an empty method for each of METHODS."""

    name = filename = section = group = controls = infotext_fields = paste_field_names = api_info = None
    args_from = args_to = 0
    alwayson = is_txt2img = is_img2img = False

    def title(self) -> str:
        raise NotImplementedError

    def ui(self, is_img2img: bool) -> Any:
        """The components whose values become the arguments."""

    def show(self, is_img2img: bool) -> Any:
        """AlwaysVisible, or whether the script is in the dropdown "Script"."""
        return True

    def run(self, p: Any, *args: Any) -> Any:
        """What makes the pictures in the host's place, where the script is chosen in the dropdown."""

    def elem_id(self, item_id: str) -> str:
        tab = ("img2img_" if self.is_img2img else "txt2img_") if self.show(True) == self.show(False) else ""
        title = re.sub(r"[^a-z_0-9]", "", re.sub(r"\s", "_", self.title().lower()))
        return f"script_{tab}{title}_{item_id}"


class ScriptClassData(NamedTuple):
    script_class: type[Script]
    path: str
    basedir: str
    module: ModuleType


scripts_data: list[ScriptClassData] = []
scripts_txt2img: ScriptRunner
scripts_img2img: ScriptRunner


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def folder_of(extension: Path) -> Path:
    """An extension is named by its folder, or by one script of it."""
    return extension if extension.is_dir() else extension.parent.parent


def load_scripts(extensions: list[Path]) -> None:
    """Runs the extensions' scripts/*.py; an extension's folder is on sys.path only meanwhile."""
    scripts_data.clear()
    paths = [
        (folder_of(e), path) for e in extensions for path in (sorted(e.glob("scripts/*.py")) if e.is_dir() else [e])
    ]
    for folder, path in paths:
        before, sys.path = sys.path, [str(folder), *sys.path]
        try:
            module = load_module(path)
            found = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Script)]
            scripts_data.extend(ScriptClassData(c, str(path), str(folder), module) for c in found)
        except Exception:
            errors.report(f"Error loading script: {path.name}", exc_info=True)
        finally:
            sys.path = before


class ScriptRunner:
    """The scripts of one tab. `inputs[0]` is the number of the selectable script that runs, 0 for none; the scripts'
    arguments follow at args_from..args_to."""

    def __init__(self, is_img2img: bool):
        self.scripts: list[Script] = []
        self.selectable_scripts: list[Script] = []
        self.inputs: list[Any] = [None]
        self.infotext_fields: list[Any] = []
        for data in scripts_data:
            try:
                script = data.script_class()
                script.filename, script.is_img2img, script.is_txt2img = data.path, is_img2img, not is_img2img
                shown = script.show(is_img2img)
                script.alwayson = shown is AlwaysVisible
                if shown:
                    (self.scripts if script.alwayson else self.selectable_scripts).append(script)
            except Exception:
                errors.report(f"Error # failed to initialize Script {data.path}", exc_info=True)
        self.alwayson_scripts = self.scripts

    def setup_ui(self) -> None:
        """Builds in the gradio context that is open: every accordion, the dropdown, what belongs to each choice."""
        import gradio as gr

        self._create_uis(self.scripts)
        titles = ["None", *(script.title() for script in self.selectable_scripts)]
        self.inputs[0] = gr.Dropdown(titles, value="None", type="index", label="Script", elem_id="script_list")
        self._create_uis(self.selectable_scripts)
        for place, script in enumerate(self.selectable_scripts, 1):
            show = partial(_show_chosen, place)
            self.inputs[0].change(show, [self.inputs[0]], [script.group], show_progress="hidden")

    def _create_uis(self, listed: list[Script]) -> None:
        import gradio as gr

        for script in listed:
            try:
                with gr.Group(visible=script.alwayson) as script.group:
                    self._create_script_ui(script)
            except Exception:
                errors.report(f"Error creating UI for {script.filename}", exc_info=True)

    def _create_script_ui(self, script: Script) -> None:
        script.args_from = script.args_to = len(self.inputs)
        script.name, script.controls = script.title().lower(), script.ui(script.is_img2img) or []
        args = []
        for control in script.controls:
            info = {key: getattr(control, key, None) for key in ("value", "minimum", "maximum", "step")}
            choices = [c[0] if isinstance(c, tuple) else c for c in getattr(control, "choices", None) or []]
            args.append({"label": control.label or "", **info, "choices": choices or None})
        script.api_info = {
            "name": script.name,
            "is_alwayson": script.alwayson,
            "is_img2img": script.is_img2img,
            "args": args,
        }
        self.infotext_fields += script.infotext_fields or []
        self.inputs += script.controls
        script.args_to = len(self.inputs)

    def default_args(self) -> list[Any]:
        """What ui() says, asked again as the host's API does."""
        import gradio as gr

        with gr.Blocks():
            listed = [*self.scripts, *self.selectable_scripts]
            return [0, *(control.value for script in listed for control in script.ui(script.is_img2img) or [])]

    def run(self, p: Any, number: int | None, *_args: Any) -> Any:
        """What the selectable script of this number makes; None where none is selected."""
        if not number:
            return None
        script = self.selectable_scripts[number - 1]
        return script.run(p, *p.script_args[script.args_from : script.args_to])

    def call(self, method: str, p: Any, *lead: Any, **kwargs: Any) -> None:
        """method(p, *lead, *the script's own arguments, **kwargs) of every script that has it."""
        for script in self.scripts:
            try:
                args = p.script_args[script.args_from : script.args_to]
                getattr(script, method)(p, *lead, *args, **kwargs)
            except Exception:
                errors.report(f"Error running {method}: {script.filename}", exc_info=True)


def _show_chosen(place: int, chosen: int | None) -> Any:
    import gradio as gr

    return gr.update(visible=place == chosen)


for _method in METHODS.split():
    setattr(Script, _method, lambda self, *args, **kwargs: None)
    setattr(ScriptRunner, _method, partialmethod(ScriptRunner.call, _method))
