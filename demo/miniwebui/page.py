"""The txt2img page."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import Response

from demo.dollhouse.world import SIZE

from . import basics, samplers, scripts, shared
from .api import run_job

FIELDS = "prompt negative_prompt sampler_name steps width height cfg_scale seed batch_size"


def generate(*values: Any) -> tuple[list, str]:
    """Pictures and infotext, or no picture and the error's sentence in their place."""
    names = FIELDS.split()
    fields, args = dict(zip(names, values, strict=False)), values[len(names) :]
    fields |= {name: int(fields[name]) for name in ("steps", "width", "height", "seed", "batch_size")}
    try:
        processed = run_job(args, **fields)
    except Exception as error:
        basics.report("Error completing request", exc_info=True)
        return [], f"<div class='error'>{html.escape(f'{type(error).__name__}: {error}')}</div>"
    lines = "<br>\n".join(map(html.escape, processed.comments.splitlines()))
    comments = f"<p class='comments'>{lines}</p>" if lines else ""
    return processed.images, f"<p>{html.escape(processed.info)}</p>{comments}"


def paster(fields: list[tuple[Any, Any]]) -> Callable[[str], list[Any]]:
    """What the paste button does: an infotext in the prompt's box to the components' values, as in the host."""

    def paste(text: str) -> list[Any]:
        parameters = basics.parse_infotext(text)
        updates = [gr.update(value=parameters.pop("Prompt"))]
        for component, key in fields:
            value = key(parameters) if callable(key) else parameters.get(key)
            kind = type(component.value)
            value = str(value) != "False" if kind is bool and value is not None else value
            updates.append(gr.update() if value is None else gr.update(value=kind(value)))
        return updates

    return paste


def create_page() -> gr.Blocks:
    """The host's components, and the scripts' accordions below them."""
    with gr.Blocks(title="miniwebui", analytics_enabled=False) as demo, gr.Row():
        with gr.Column():
            prompt = gr.Textbox(label="Prompt", lines=2, elem_id="txt2img_prompt")
            negative = gr.Textbox(label="Negative prompt", elem_id="txt2img_neg_prompt")
            with gr.Row():
                names = list(samplers.all_samplers_map)
                sampler = gr.Dropdown(names, value=names[0], label="Sampling method", elem_id="txt2img_sampling")
                steps = gr.Slider(1, 150, 20, step=1, label="Sampling steps", elem_id="txt2img_steps")
            with gr.Row():
                width, height = (
                    gr.Slider(64, 1024, SIZE, step=8, label=name.title(), elem_id=f"txt2img_{name}")
                    for name in ("width", "height")
                )
            with gr.Row():
                cfg = gr.Slider(1, 30, 7.0, step=0.5, label="CFG Scale", elem_id="txt2img_cfg_scale")
                seed = gr.Number(-1, label="Seed", precision=0, elem_id="txt2img_seed")
                batch = gr.Slider(1, 8, 1, step=1, label="Batch size", elem_id="txt2img_batch_size")
            scripts.scripts_txt2img.setup_ui()
        with gr.Column():
            with gr.Row():
                button = gr.Button("Generate", variant="primary", elem_id="txt2img_generate")
                stop = gr.Button("Interrupt", elem_id="txt2img_interrupt")
                paste = gr.Button("Paste parameters", elem_id="paste")
            lossless = {} if gr.__version__.startswith("3.") else {"format": "png"}  # the hosts' are PNG files
            gallery = gr.Gallery(label="Output", show_label=False, elem_id="txt2img_gallery", **lossless)
            info = gr.HTML(elem_id="html_info_txt2img")
        inputs = [prompt, negative, sampler, steps, width, height, cfg, seed, batch, *scripts.scripts_txt2img.inputs]
        button.click(generate, inputs, [gallery, info])
        stop.click(shared.state.interrupt, queue=False)
        pasted = scripts.scripts_txt2img.infotext_fields
        paste.click(paster(pasted), [prompt], [prompt, *(component for component, _ in pasted)])
    with demo, gr.Tabs(elem_id="mode_img2img"):
        with gr.Tab("img2img", elem_id="img2img_img2img_tab"):
            gr.HTML()
        with gr.Tab("Inpaint upload", elem_id="img2img_inpaint_upload_tab"), gr.Row():
            gr.Image(type="pil", label="Image for img2img", elem_id="img_inpaint_base")
            gr.Image(type="pil", label="Mask", elem_id="img_inpaint_mask")
    with gr.Blocks():
        scripts.scripts_img2img.setup_ui()
    return demo


def mount_page(app: FastAPI, demo: gr.Blocks) -> None:
    """Puts the page at /, with page.js and the extensions' javascript/*.js and style.css in its head."""
    roots = sorted({Path(data.basedir) for data in scripts.scripts_data})
    styles = [root / "style.css" for root in roots if (root / "style.css").is_file()]
    files = [
        Path(__file__).with_name("page.js"),
        *(path for root in roots for path in sorted(root.glob("javascript/*.js"))),
    ]

    @app.middleware("http")
    async def add_javascript(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        if request.url.path != "/" or "text/html" not in response.headers.get("content-type", ""):
            return response
        body = b"".join([chunk async for chunk in response.body_iterator]).decode()
        code = "".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in files)
        code += "".join(f"<style>{path.read_text(encoding='utf-8')}</style>" for path in styles)
        return Response(body.replace("</head>", f"{code}</head>", 1), response.status_code, media_type="text/html")

    gr.mount_gradio_app(app, demo.queue(), path="/")
