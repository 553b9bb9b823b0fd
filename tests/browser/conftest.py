"""A real chromium and the miniature host as a process of its own, with Dollhouse's weights if they are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faces.conftest import draw, save_pack
from tests.random_adapter import write_faceid_adapter
from tests.random_model import write_random_model
from tests.serving import ROOT, serving

DOLLHOUSE = ROOT / "demo/dollhouse/weights/models"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory) -> Path:
    """Dollhouse where it is shipped whole, else a random model with a self-made face pack."""
    if next(DOLLHOUSE.glob("ipadapter/*.safetensors"), None) and next(
        DOLLHOUSE.glob("Stable-diffusion/*.safetensors"), None
    ):
        return DOLLHOUSE
    folder = tmp_path_factory.mktemp("models")
    write_random_model(folder)
    save_pack(folder / "insightface/models/squares", side=256)
    write_faceid_adapter(folder / "ipadapter/fits.safetensors")
    return folder


@pytest.fixture(scope="session")
def photo_file(models_dir, tmp_path_factory) -> Path:
    """A photo in which the pack of models_dir finds a face."""
    path = tmp_path_factory.mktemp("photos") / "person.png"
    if models_dir == DOLLHOUSE:
        from demo.dollhouse.draw import draw as draw_world
        from demo.dollhouse.world import random_picture

        picture = random_picture(np.random.default_rng(5), shot="close-up", style="flat")
        Image.fromarray(draw_world(picture, 256, 256)[0]).save(path)
    else:
        Image.fromarray(draw(1)).save(path)
    return path


@pytest.fixture(scope="session")
def landscape(tmp_path_factory) -> Path:
    """A picture without a face."""
    path = tmp_path_factory.mktemp("photos") / "landscape.png"
    grey = np.random.default_rng(0).integers(100, 160, (200, 300, 1)).repeat(3, 2)
    Image.fromarray(grey.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def own_models(tmp_path_factory) -> Path:
    """The host's --beyondfacial-models-dir."""
    return tmp_path_factory.mktemp("own")


@pytest.fixture(autouse=True)
def nobody_saved(own_models):
    """No identity and no preset of one test is on the page of the next."""
    yield
    shutil.rmtree(own_models / "beyondfacial", ignore_errors=True)


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    """The folder of the pictures that the host saves."""
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="session")
def server(models_dir, own_models, saved, tmp_path_factory) -> str:
    """The address of a running miniature host."""
    flags = ["--models-dir", models_dir, "--beyondfacial-models-dir", own_models, "--outdir", saved]
    with serving("demo.miniwebui", tmp_path_factory.mktemp("server") / "log.txt", *flags) as served:
        yield served.address


@pytest.fixture(scope="session")
def chromium():
    """A started browser; without one the tests are skipped with a reason, and fail where CI is set."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        missing = "chromium is not installed: the page was NOT tried in a browser (apt install chromium)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, server):
    """The host's page, opened; what it asks of other hosts (web fonts) is refused."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1400})
    context.route(lambda url: not url.startswith(server), lambda route: route.abort())
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(server)
    page.wait_for_selector("#beyondfacial_txt2img")
    yield page
    context.close()
