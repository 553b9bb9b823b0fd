"""What is still missing before a first picture can be made, as a list at the top of the page."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

from ..adapters.families import FAMILIES
from ..errors import BeyondFacialError
from . import fitting, folders, loaded_model

WEIGHTS = "https://huggingface.co/h94/IP-Adapter-FaceID"
PACKS = "https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip"
ADAPTER_FOLDER, PACK_FOLDER = "ipadapter", "insightface/models"


def missing_html() -> str:
    """The list as HTML; "" where nothing is missing."""
    try:
        items = [*_adapters(), *_packs()]
    except (OSError, BeyondFacialError) as error:
        items = [html.escape(f"A models folder cannot be read: {error}")]
    if not items:
        return ""
    lines = "".join(f"<li>\N{BALLOT BOX} {item}</li>" for item in items)
    return (
        f'<div class="beyondfacial-panel beyondfacial-missing"><b>Before the first picture</b><ul>{lines}</ul></div>'
    )


def _adapters() -> Iterator[str]:
    listing, model = folders.adapters_by_name(), loaded_model.loaded_name()
    family, folder = FAMILIES["faceid"], _folder(ADAPTER_FOLDER)
    files = "ip-adapter-faceid_sd15.bin for SD1.5 models, ip-adapter-faceid_sdxl.bin for SDXL"
    from_page = f"{_link('h94/IP-Adapter-FaceID', WEIGHTS)} ({files}) into {folder}. {html.escape(family.licence)}"
    if not listing:
        yield f"<b>An identity adapter</b>: put a file of {from_page}"
    elif len(fitting.unfit_adapters(listing)) == len(listing):
        loaded = f" {html.escape(model)}" if model else ""
        yield (
            f"<b>An adapter for the loaded model{loaded}</b>: none of the {len(listing)} found can be used with it. "
            f"Load an SD1.5 or SDXL checkpoint, or put a file of {from_page}"
        )


def _packs() -> Iterator[str]:
    if not folders.packs_by_name():
        yield (
            f"<b>A face pack</b>: download {_link('buffalo_l.zip', PACKS)} (289 MB) and unpack it into "
            f"{_folder(f'{PACK_FOLDER}/buffalo_l')}, so that its .onnx files lie in that folder. It is for "
            "non-commercial research only."
        )


def _folder(name: str) -> str:
    """The absolute folder where the host's other models of the kind lie."""
    return f"<code>{html.escape(str(Path(folders.model_roots()[-1]) / name))}</code>"


def _link(text: str, address: str) -> str:
    return f'<a href="{address}" target="_blank" rel="noopener">{html.escape(text)}</a>'
