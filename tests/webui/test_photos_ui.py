"""The photos on the page: added, removed, checked; asked as gradio asks it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from demo.miniwebui import shared
from lib_beyondfacial.settings import NONE
from lib_beyondfacial.webui import components, host_settings, identities_ui, persons_ui, photos_ui
from tests.faces.conftest import draw
from tests.webui.test_face_check import BLANK, person


@pytest.fixture
def files(tmp_path):
    """files(name=pixels or bytes) -> paths of files as gradio hands them over."""

    def make(**pictures):
        paths = []
        for name, picture in pictures.items():
            path = tmp_path / f"{name}.png"
            path.write_bytes(picture) if isinstance(picture, bytes) else Image.fromarray(picture).save(path)
            paths.append(str(path))
        return paths

    return make


@pytest.fixture
def check(host, files):
    """check(name=pixels) -> what the check shows."""
    return lambda **pictures: photos_ui.check(files(**pictures), "", "", "auto", "largest", 1, NONE)


def captions(text):
    return [re.sub("<.*?>", "", each) for each in re.findall("<figcaption>(.*?)</figcaption>", text)]


def actions(text):
    return re.findall('data-beyondfacial-action="(.*?)"', text)


def test_photos_are_added_behind_those_that_are_there(files):
    first, second = files(first=draw(1), second=draw(1, noise=1))
    paths, zone, shown, identity = photos_ui.append([first], None, NONE)
    assert (paths["value"], zone["value"]) == ([first], None)
    assert captions(shown) == ["first.png"]
    assert "value" not in identity
    paths, _, shown, identity = photos_ui.append([SimpleNamespace(name=second)], [SimpleNamespace(name=first)], "Anna")
    assert paths["value"] == [first, second]
    assert captions(shown) == ["first.png", "second.png"]
    assert 'data-beyondfacial="2 photos"' in shown
    assert identity["value"] == NONE  # photos take the saved identity's place
    assert photos_ui.append([first], [first, second], NONE)[0]["value"] == [first, second]  # once each


def test_more_than_the_most_are_left_out_with_words(files):
    path = Path(files(one=draw(1))[0])
    many = [str(path.with_name(f"{i}.png")) for i in range(18)]
    for each in many:
        Path(each).write_bytes(path.read_bytes())
    paths, _, shown, _ = photos_ui.append(many, None, NONE)
    assert paths["value"] == many[:16]
    assert "16 photos are the most; left out: 2." in shown
    assert 'data-check=""' in shown, "the answer of a check would take the place of this line"


def test_one_is_taken_out_by_its_cross(files):
    given = files(first=draw(1), second=draw(1, noise=1), third=draw(1, noise=2))
    line = actions(photos_ui.show_photos(given))[1]
    paths, shown, identity = persons_ui.act(f"{line} #3", given)
    assert paths["value"] == [given[0], given[2]]
    assert captions(shown) == ["first.png", "third.png"]
    assert "value" not in identity
    paths, shown, _ = persons_ui.act(f"{line} #4", paths["value"])  # of the list before
    assert "value" not in paths
    paths, shown, _ = persons_ui.act(actions(photos_ui.show_photos(given[:1]))[0], given[:1])
    assert paths["value"] is None
    assert photos_ui.NOBODY in shown


def test_a_card_chooses_a_saved_identity():
    assert persons_ui.act("choose Anna #7 #1", None)[2]["value"] == "Anna #7"
    assert persons_ui.act("choose #2", None)[2]["value"] == NONE
    assert all("value" not in each for each in persons_ui.act("", None))


def test_bad_files_are_named_at_once_and_can_be_taken_out(files):
    given = files(good=np.full((300, 600, 3), 200, np.uint8)) + files(**{"bad <b>": b"not a picture"})
    shown = photos_ui.show_photos(given)
    assert captions(shown) == ["good.png", "\N{BALLOT X} bad &lt;b&gt;.png: cannot be read"]
    assert 'data-beyondfacial="1 photo"' in shown
    assert "bad &lt;b&gt;.png&quot; cannot be read (damaged, or not JPEG, PNG, WebP, GIF, BMP or TIFF); " in shown
    assert photos_ui.remove(actions(shown)[1], given)[0]["value"] == given[:1]


def test_nobody_is_said(host):
    for shown in (photos_ui.show_photos(()), photos_ui.check(None, None, None, None, None, None, None)):
        assert photos_ui.NOBODY in shown
        assert 'data-key=""' in shown


def test_the_check_says_it_all_and_offers_to_remove(check):
    text = check(
        first=person(), second=person(noise=1), third=person(noise=2), other=person(is_other=True), blank=BLANK
    )
    good, bad = "\N{CHECK MARK}", "\N{BALLOT X}"
    assert [(each[0], each.split()[1]) for each in captions(text)] == [
        (good, "first.png:"), (good, "second.png:"), (good, "third.png:"), (bad, "other.png:"), (bad, "blank.png:")
    ]  # fmt: skip
    assert "3 of 5 photos can be used." in text
    assert "shows somebody else" in text
    assert text.count("agreement with the others") == 4  # numbers, in tooltips
    assert "No face was found in &quot;blank.png&quot;" in text
    assert actions(text)[-1].split()[2:] == ["3", "4"]
    assert 'data-check="checked"' in text


def test_the_check_names_what_cannot_be_read_and_goes_on(check):
    text = check(good=draw(1), bad=b"not a picture")
    assert "1 of 2 photos can be used." in text
    assert "bad.png" in text
    assert photos_ui.STOPS in text
    assert [line.split()[0] for line in actions(text)] == ["remove", "remove", "check", "use", "remove"]
    assert [line.split()[2:] for line in actions(text) if " " in line] == [["0"], ["1"], ["1"]]
    assert "can be used" not in check(bad=b"not a picture")


def test_a_check_that_fails_is_not_asked_for_for_ever(check, monkeypatch):
    monkeypatch.setattr(photos_ui.face_check, "run_check", lambda *_: 1 / 0)
    text = check(good=draw(1))
    assert "ZeroDivisionError" in text
    assert captions(text) == ["good.png"]
    assert 'data-check="checked"' in text


def test_the_host_says_whether_photos_are_checked_by_themselves(files, monkeypatch):
    given = files(good=draw(1))
    assert 'data-check="wanted"' in photos_ui.show_photos(given)
    monkeypatch.setitem(shared.opts.data, host_settings.CHECK_PHOTOS, False)
    assert 'data-check=""' in photos_ui.show_photos(given)


def test_names_are_text_and_not_html(check):
    text = check(**{"<img src=x onerror=1>": draw(1), "<b>": b"bad"})
    assert "<img src=x" not in text
    assert "<b>.png" not in text
    assert "&lt;img src=x" in text


def test_a_saved_identity_that_is_not_there_leaves_the_photos(host, files):
    given = files(good=draw(1))
    shown, references, _, _ = identities_ui.choose("nobody", given)
    assert components.MARK in shown
    assert captions(shown) == ["good.png"]
    assert "value" not in references
    assert "value" not in identities_ui.choose(NONE, given)[1]
