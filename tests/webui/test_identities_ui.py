"""Saved identities on the page: what the buttons do, asked as gradio asks it."""

from __future__ import annotations

import json
import re

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from demo.miniwebui import shared
from lib_beyondfacial.settings import NONE
from lib_beyondfacial.webui import bodies, identities, photos_ui
from lib_beyondfacial.webui import identities_ui as page
from tests.faces.conftest import draw


@pytest.fixture
def models_folder(host, tmp_path, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    return tmp_path / "beyondfacial" / "identities"


@pytest.fixture
def check_values(models_folder, tmp_path):
    """The page's values of face_check.INPUTS with one photo uploaded."""
    path = tmp_path / "anna.png"
    Image.fromarray(draw(1)).save(path)
    return [str(path)], "", "fits", "auto", "largest", 1


@pytest.fixture
def anna(check_values):
    page.save_photos("Anna", False, False, *check_values)
    return "Anna"


def test_saving_lists_it_and_leaves_the_photos(check_values):
    dropdown, name, overwrite, cards, message = page.save_photos(" Anna ", True, True, *check_values)
    assert dropdown["choices"] == [NONE, "Anna"]
    assert "value" not in dropdown  # the photos stay in use
    assert (name["value"], overwrite["value"]) == ("", False)
    assert message == "Saved as &quot;Anna&quot; from 1 photo; it can be chosen from now on."
    assert 'data-beyondfacial-action="choose Anna"' in cards
    assert identities.entry_of("Anna").has_crops


@pytest.mark.parametrize(
    ("name", "photos", "expected"),
    [
        ("../x", True, "cannot be the name of an identity"),
        ("", True, "it is empty"),
        ("Anna", True, "already a saved identity"),
        ("Berta", False, "There are no photos to save"),
    ],
)
def test_what_cannot_be_saved_is_said(anna, check_values, name, photos, expected):
    uploads = check_values[0] if photos else None
    dropdown, kept, *_, message = page.save_photos(name, False, False, uploads, *check_values[1:])
    assert expected in message
    assert "choices" not in dropdown
    assert "value" not in kept  # the name that was typed is still there
    assert identities.names() == ["Anna"]


def test_the_card(anna, models_folder):
    text = photos_ui.show_saved("Anna")
    assert re.search(r"From 1 photo; saved 20\d\d-\d\d-\d\d; face pack squares; face crops not kept\.", text)
    assert 'data-beyondfacial="Anna"' in text
    assert 'aria-pressed="true"' in page.saved_cards("Anna")
    (models_folder / "Broken.safetensors").write_bytes(b"x")
    assert "Broken" not in page.saved_cards("Anna")
    for name, expected in (("Broken", "Broken"), ("Nobody", "no saved identity"), ("<b>", "&lt;b&gt;")):
        text = photos_ui.show_saved(name)
        assert expected in text
        assert "<img" not in text


def test_renaming(anna):
    dropdown, name, _, message = page.rename_chosen("Anna", "Berta ")
    assert (dropdown["choices"], dropdown["value"], name["value"]) == ([NONE, "Berta"], "Berta", "")
    assert message == "&quot;Anna&quot; is now &quot;Berta&quot;."
    assert "No saved identity is chosen" in page.rename_chosen(None, "Clara")[-1]
    assert "cannot be the name" in page.rename_chosen("Berta", "a/b")[-1]
    assert identities.names() == ["Berta"]


def test_deleting_takes_two_clicks_on_the_same_one(anna, check_values):
    page.save_photos("Berta", False, False, *check_values)
    dropdown, button, *_ = page.delete_chosen("Anna", page.DELETE)
    question = button["value"]
    assert "Anna" in question
    assert "choices" not in dropdown
    _, button, *_ = page.delete_chosen("Berta", question)  # asked about the other one
    assert "Berta" in button["value"]
    assert identities.names() == ["Anna", "Berta"]
    dropdown, button, _, message = page.delete_chosen("Anna", question)
    assert (dropdown["choices"], dropdown["value"], button["value"]) == ([NONE, "Berta"], NONE, page.DELETE)
    assert message == "&quot;Anna&quot; is deleted."
    assert "No saved identity is chosen" in page.delete_chosen("", page.DELETE)[-1]


def test_nothing_changes_where_others_can_reach_it(anna, check_values, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "listen", True, raising=False)
    question = f'Really delete "{anna}"?'
    answers = (
        page.save_photos("Berta", False, False, *check_values),
        page.rename_chosen("Anna", "Berta"),
        page.delete_chosen("Anna", question),
    )
    assert all("--beyondfacial-allow-writes" in answer[-1] for answer in answers)
    assert identities.names() == ["Anna"]
    assert "<img" in photos_ui.show_saved("Anna")  # it may still be used


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from([field.key for field in bodies.SAVE_FIELDS]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=2),
    )
)
def test_any_body_gets_one_sentence_and_saves_nothing(host, models_folder, body):
    client = TestClient(host.app)
    answer = client.post(
        "/beyondfacial/v1/identities", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (404, 422)
    assert answer.json()["detail"].endswith(".")
    assert identities.names() == []
