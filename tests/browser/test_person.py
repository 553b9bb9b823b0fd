"""From photos to a saved person in a real browser: check, save, use again, rename, delete; and the same over HTTP."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError

from tests.browser.test_page import generate, open_accordion, shoot, upload

pytestmark = pytest.mark.browser
TAB = "#beyondfacial_txt2img"


@pytest.fixture(scope="module")
def landscape(tmp_path_factory):
    """A picture without a face."""
    path = tmp_path_factory.mktemp("photos") / "landscape.png"
    grey = np.random.default_rng(0).integers(100, 160, (200, 300, 1)).repeat(3, 2)
    Image.fromarray(grey.astype(np.uint8)).save(path)
    return path


def says(page, part, words):
    page.wait_for_selector(f"{TAB}_{part}:has-text({json.dumps(words)})")


def save_as(page, name):
    field = page.locator(f"{TAB}_identity_name textarea, {TAB}_identity_name input")
    page.click(f"{TAB}_manage > .label-wrap")
    try:
        field.wait_for(state="visible", timeout=10_000)
    except TimeoutError:  # the click met the page while the photos' thumbnails moved it
        page.click(f"{TAB}_manage > .label-wrap")
    field.fill(name)
    page.click(f"{TAB}_save_identity")


def choose(page, name):
    """Pick a saved identity from the dropdown's list, as gradio 3 and 4 draw it; gradio 3 draws an open list once."""
    words = f":has-text({json.dumps(name)})"
    item = page.locator(f"{TAB}_identity [role=option]{words}, .options .item{words}").first
    for _ in range(20):
        page.click(f"{TAB}_identity input")
        try:
            item.click(timeout=2000)
        except TimeoutError:
            page.click(f"{TAB}_weight input[type=number]")  # closes the list
        else:
            return
    pytest.fail(f"{name} is not in the list of saved identities")


def infotext(page):
    """What stands under the pictures once the run that was just begun is done."""
    page.wait_for_selector("#html_info_txt2img:has-text('BeyondFacial report')", timeout=120_000)
    return page.inner_text("#html_info_txt2img")


def test_the_face_check_names_each_photo(page, photo_file, landscape):
    open_accordion(page)
    upload(page, photo_file, landscape)
    says(page, "status", "2 photos.")
    before = page.locator(f"{TAB}_previews").bounding_box()
    page.click(f"{TAB}_check")
    says(page, "checked", "1 of 2 used")
    says(page, "checked", f"{photo_file.name}: 1 face, score")
    says(page, "checked", 'No face was found in "landscape.png"')
    assert page.locator(f"{TAB}_previews img").count() == 2
    assert page.locator(f"{TAB}_previews").bounding_box() == before  # nothing above the answer moves
    shoot(page, "face_check")


def test_a_saved_person_is_used_again_and_deleted(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    says(page, "status", "1 photo.")
    save_as(page, "Anna")
    says(page, "identity_message", 'Saved as "Anna" from 1 photo')
    generate(page)
    first = infotext(page)
    page.evaluate("document.querySelector('#html_info_txt2img').querySelector('p').textContent = ''")

    choose(page, "Anna")
    says(page, "status", 'Saved identity "Anna".')
    page.wait_for_selector(f"{TAB}_references:has-text('Drop')")  # it took the photo's place
    assert "BeyondFacial (Anna)" in page.inner_text(f"{TAB} > .label-wrap")
    says(page, "identity_card", "From 1 photo; saved 20")
    generate(page)
    second = infotext(page)
    photo_hash = next(part for part in first.split(", ") if part.startswith("BeyondFacial photos"))
    assert photo_hash in second
    assert "Anna" not in second  # a name is personal
    shoot(page, "saved_identity")

    page.click(f"{TAB}_delete_identity")
    says(page, "delete_identity", 'Really delete "Anna"?')
    page.click(f"{TAB}_delete_identity")
    says(page, "identity_message", '"Anna" is deleted.')
    says(page, "status", "No photo yet.")
    page.click(f"{TAB}_refresh_identity")
    generate(page)
    page.wait_for_selector("#html_info_txt2img .error:has-text('\"Photos\" is empty')")


def test_photos_take_the_place_of_a_saved_person(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    says(page, "status", "1 photo.")
    save_as(page, "Berta")
    says(page, "identity_message", 'Saved as "Berta"')
    choose(page, "Berta")
    says(page, "status", 'Saved identity "Berta".')
    upload(page, photo_file)
    says(page, "status", "1 photo.")
    page.wait_for_function(f"document.querySelector('{TAB}_identity input').value === ''")
    choose(page, "Berta")
    says(page, "status", "Berta")
    page.fill(f"{TAB}_identity_name textarea, {TAB}_identity_name input", "Clara")
    page.click(f"{TAB}_rename_identity")
    says(page, "identity_message", '"Berta" is now "Clara".')
    says(page, "status", 'Saved identity "Clara".')


def test_the_list_is_read_again_when_the_accordion_is_opened(page, server, photo_file):
    """The page's own list is as old as the server; what was saved since is found all the same."""
    photo = base64.b64encode(photo_file.read_bytes()).decode()
    body = json.dumps({"name": "Emma", "references": [photo]}).encode()
    request = urllib.request.Request(
        f"{server}/beyondfacial/v1/identities", body, {"Content-Type": "application/json"}
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300).close()
    page.reload()
    page.wait_for_selector(TAB)
    open_accordion(page)
    choose(page, "Emma")
    says(page, "status", 'Saved identity "Emma".')


def test_a_name_that_leads_elsewhere_is_refused(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    save_as(page, "../../escaped")
    says(page, "identity_message", "cannot be the name of an identity")
    shoot(page, "refused_name")


def test_the_same_over_http(server, photo_file, landscape):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(server + path, data, headers, method=method)
        try:
            with opener.open(request, timeout=300) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    photos = [base64.b64encode(path.read_bytes()).decode() for path in (photo_file, landscape)]
    status, result = ask("POST", "/beyondfacial/v1/faces", {"references": photos})
    assert status == 200
    assert [photo_entry["used"] for photo_entry in result["photos"]] == [True, False]
    assert "photo 2" in result["photos"][1]["sentence"]
    route = "/beyondfacial/v1/identities"
    status, entry = ask("POST", route, {"name": "Dora", "references": photos})
    assert (status, entry["name"], entry["photos"]) == (200, "Dora", 1)
    unit = {"identity": "Dora", "show_mask": True}
    run = {"prompt": "photo of a man", "seed": 3, "steps": 4, "width": 128, "height": 128, "sampler_name": "Euler"}
    status, made = ask("POST", "/sdapi/v1/txt2img", {**run, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}})
    assert status == 200
    assert len(made["images"]) == 2
    assert json.loads(made["info"])["extra_generation_params"]["BeyondFacial photos"] == entry["photo_hash"]
    for name in ("../Dora", "..", "a/b"):
        assert ask("DELETE", f"{route}?{urllib.parse.urlencode({'name': name})}")[0] == 422
        assert ask("POST", route, {"name": name, "references": photos})[0] == 422
    assert ask("DELETE", f"{route}/Dora") == (200, {"deleted": "Dora"})
    assert ask("DELETE", f"{route}/Dora")[0] == 404
