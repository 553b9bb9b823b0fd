"""The miniature host with a random model, a self-made face pack and a random adapter: all real but the looks."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import pytest
from PIL import Image

from demo.miniwebui import host as miniature
from lib_beyondfacial.settings import PAGE_FIELDS
from tests.faces.conftest import draw, save_pack
from tests.random_adapter import write_faceid_adapter
from tests.random_model import write_random_model

miniature.install_import_names()  # webui/ imports the host's modules at its top


def to_base64(picture: object) -> str:
    """PNG as base64 text, of an array or a PIL image."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def page_args(values: Mapping[str, object]) -> list[object]:
    """A script's arguments as the page sends them; None, which means the default, for what is not given."""
    return [values.get(field.key) for field in PAGE_FIELDS]


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory):
    """A models folder as users have it."""
    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder)
    save_pack(folder / "insightface/models/squares", side=256)
    write_faceid_adapter(folder / "ipadapter/fits.safetensors")
    write_faceid_adapter(folder / "ipadapter/made_for_sdxl.safetensors", context_dim=2048, widths=[64] * 70)
    (folder / "ipadapter/text.safetensors").write_text("I am not weights", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def photo() -> str:
    """A face that the self-made pack finds, as base64."""
    return to_base64(draw(1))


@pytest.fixture(scope="session")
def other_photo() -> str:
    """The same person once more."""
    return to_base64(draw(1, noise=1))


@pytest.fixture(scope="module")
def host(models_dir):
    """A booted host that has loaded scripts/beyondfacial.py."""
    return miniature.boot(models_dir, [miniature.REPOSITORY])
