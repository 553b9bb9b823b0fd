"""From photos to a saved person in a real browser: check, save, use again, rename, delete; and the same over HTTP."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request

import pytest

from lib_beyondfacial.settings import NONE
from tests.browser.hands import TAB, checked, choose, generate, infotext, open_accordion, says, shoot, title, upload

pytestmark = pytest.mark.browser


def save_as(page, name):
    page.click(f"{TAB}_manage")
    field = page.locator(f"{TAB}_identity_name textarea, {TAB}_identity_name input")
    field.wait_for(state="visible")
    field.fill(name)
    page.click(f"{TAB}_save_identity")


def test_the_face_check_names_each_photo_and_removes_the_unusable(page, photo_file, landscape):
    open_accordion(page)
    upload(page, photo_file, landscape)
    checked(page, 2)
    says(page, "photos", "1 of 2 photos can be used.")
    says(page, "photos", f"{photo_file.name}: can be used")
    says(page, "photos", 'No face was found in "landscape.png"')
    shoot(page, "face_check")
    page.click(f"{TAB}_photos .beyondfacial-action:has-text('Remove')")
    says(page, "photos", "The photo can be used.")
    assert "landscape" not in page.inner_text(f"{TAB}_photos")


@pytest.mark.parametrize("state", ['data-key="" data-check=""', 'data-key="k2" data-check="checked"'])
def test_an_answer_about_photos_that_are_gone_is_asked_for_again(page, state):
    """A check that was slow must not bring back photos that were removed, or replaced by a saved person."""
    open_accordion(page)
    page.evaluate(f"""document.querySelector("{TAB}_check").closest("button").addEventListener(
        "click", () => {{ window.presses = (window.presses || 0) + 1; }})""")
    show = f"""(attributes) => {{ document.querySelector("{TAB}_photos [data-beyondfacial]").outerHTML =
        '<div class="beyondfacial-panel" data-beyondfacial="" ' + attributes + '></div>'; }}"""
    page.evaluate(show, 'data-key="k1" data-check="asked"')
    page.wait_for_timeout(100)
    page.evaluate(show, state.replace("checked", "asked"))
    page.wait_for_timeout(100)
    page.evaluate(show, 'data-key="k1" data-check="checked"')
    page.wait_for_function("window.presses === 1")


def test_a_saved_person_is_used_again_and_deleted(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    save_as(page, "Anna")
    says(page, "identity_message", 'Saved as "Anna" from 1 photo')
    generate(page)
    first = infotext(page)
    page.evaluate("document.querySelector('#html_info_txt2img').querySelector('p').textContent = ''")

    page.click(f"{TAB}_saved .beyondfacial-card:has-text('Anna')")
    says(page, "photos", 'Saved identity "Anna". From 1 photo; saved 20')  # it took the photo's place
    page.wait_for_function(f"document.querySelector('{TAB}_identity input').value === 'Anna'")
    assert "BeyondFacial (Anna)" in title(page)
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
    says(page, "photos", "Nobody yet")
    page.click(f"{TAB}_refresh_identity")
    generate(page)
    page.wait_for_selector("#html_info_txt2img .error:has-text('nobody is given')")


def test_photos_take_the_place_of_a_saved_person(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
    save_as(page, "Berta")
    says(page, "identity_message", 'Saved as "Berta"')
    choose(page, "identity", "Berta")
    says(page, "photos", 'Saved identity "Berta".')
    upload(page, photo_file)
    checked(page, 1)
    page.wait_for_function(f"document.querySelector('{TAB}_identity input').value === {json.dumps(NONE)}")
    choose(page, "identity", "Berta")
    says(page, "photos", 'Saved identity "Berta".')
    page.fill(f"{TAB}_identity_name textarea, {TAB}_identity_name input", "Clara")
    page.click(f"{TAB}_rename_identity")
    says(page, "identity_message", '"Berta" is now "Clara".')
    says(page, "photos", 'Saved identity "Clara".')
    page.click(f"{TAB}_photos .beyondfacial-remove")
    says(page, "photos", "Nobody yet")


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
    choose(page, "identity", "Emma")
    says(page, "photos", 'Saved identity "Emma".')


def test_a_name_that_leads_elsewhere_is_refused(page, photo_file):
    open_accordion(page)
    upload(page, photo_file)
    checked(page, 1)
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
