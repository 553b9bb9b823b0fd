"""Each error that a user can cause by clicking: its sentence stands under the pictures, in the page's own words."""

from __future__ import annotations

import base64
import json
import re
import shutil
import urllib.request
from types import SimpleNamespace

import pytest

from lib_beyondfacial.settings import BY_KEY, PERSON_FIELDS
from tests.browser.hands import (
    RUN_MS,
    SECOND,
    TAB,
    checked,
    choose,
    generate,
    open_accordion,
    open_second,
    says,
    shoot,
    upload,
)
from tests.random_adapter import write_faceid_adapter

pytestmark = pytest.mark.browser
KEYS = {*BY_KEY, *(field.key for field in PERSON_FIELDS)}


@pytest.fixture
def given(page, server, photo_file, landscape, models_dir, own_models, tmp_path):
    """What the cases need; `other` is where a second adapter may lie as long as a case runs."""
    no_image = tmp_path / "holiday.png"
    no_image.write_text("not a picture", encoding="utf-8")
    other = own_models / "ipadapter/another.safetensors"
    (fits,) = models_dir.glob("ipadapter/*.safetensors")
    photos = {"photo": photo_file, "landscape": landscape, "no_image": no_image}
    yield SimpleNamespace(page=page, server=server, fits=fits, other=other, **photos)
    other.unlink(missing_ok=True)


def upload_checked(given, photo, count=1, **place):
    upload(given.page, photo, **place)
    checked(given.page, count, **place)


def nobody(given):
    pass


def photo_without_face(given):
    upload_checked(given, given.landscape)


def no_image(given):
    upload_checked(given, given.no_image)


def second_without_face(given):
    upload_checked(given, given.photo)
    open_second(given.page)
    upload_checked(given, given.landscape, person=SECOND)


def second_nobody(given):
    upload_checked(given, given.photo)
    open_second(given.page)
    given.page.fill(f"{SECOND}_weight input[type=number]", "0.5")
    given.page.press(f"{SECOND}_weight input[type=number]", "Tab")


def two_adapters(given):
    upload_checked(given, given.photo)
    given.other.parent.mkdir(exist_ok=True)
    shutil.copyfile(given.fits, given.other)


def adapter_of_another_model(given):
    upload_checked(given, given.photo)
    write_faceid_adapter(given.other, context_dim=2048, widths=[64] * 70)
    given.page.click(f"{TAB}_refresh_adapter")
    choose(given.page, "adapter", "another")
    says(given.page, "described", "another")


def deleted_meanwhile(given):
    photo = base64.b64encode(given.photo.read_bytes()).decode()
    ask(given, "POST", "/beyondfacial/v1/identities", {"name": "Gone", "references": [photo]})
    given.page.click(f"{TAB}_refresh_identity")
    choose(given.page, "identity", "Gone")
    says(given.page, "photos", 'Saved identity "Gone".')
    ask(given, "DELETE", "/beyondfacial/v1/identities/Gone")


def ask(given, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(given.server + path, data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=300) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (nobody, "BeyondFacial is on, but nobody is given"),
        (photo_without_face, 'No face was found in "landscape.png"'),
        (no_image, '"holiday.png" cannot be read (damaged, or not JPEG'),
        (second_nobody, 'The second person has no photos, but "Likeness of the second person" is set'),
        (second_without_face, 'Person 2: No face was found in "landscape.png"'),
        (two_adapters, 'There are several adapters; set "Identity adapter" to one of '),
        (adapter_of_another_model, '"another" was made for SDXL'),
        (deleted_meanwhile, 'There is no saved identity "Gone"'),
    ],
)
def test_each_error_is_a_sentence_with_the_pages_labels(given, cause, sentence):
    page = given.page
    open_accordion(page)
    cause(given)
    generate(page)
    page.wait_for_selector("#html_info_txt2img .error", timeout=RUN_MS)
    shown = page.inner_text("#html_info_txt2img .error")
    shoot(page, f"error_{cause.__name__}")
    assert shown.startswith(f"\u26a0 {sentence}")
    assert not KEYS & set(re.findall(r'"(\w+)"', shown)), "keys of the API"
    assert shown.endswith(".")
    assert page.locator("#txt2img_gallery .grid-wrap img").count() == 0
