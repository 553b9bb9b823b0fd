"""Reports and paste keys."""

from __future__ import annotations

import html
import json

import pytest
from fastapi.testclient import TestClient

from demo.miniwebui import shared
from lib_beyondfacial.settings import BY_KEY, PAGE_PERSON_FIELDS, Settings
from lib_beyondfacial.webui import infotext
from lib_beyondfacial.webui.infotext import (
    ENABLED_KEY,
    PASTED_FIELDS,
    PHOTOS_KEY,
    Report,
    Reports,
    describe_persons,
    missing_person,
    paste_key,
)

FOUND = Report(similarity=0.51234, face_area=0.0412, mask_coverage=0.0625)
MISSED = Report(similarity=None, face_area=0.0, mask_coverage=0.0)


def test_report_reads_well_and_needs_no_quotes():
    assert str(FOUND) == "similarity 0.512; face 0.0412; mask 0.0625"
    assert str(MISSED) == "similarity no face; face 0.0000; mask 0.0000"
    assert not set(",:\n") & set(f"{FOUND}{MISSED}")


def test_reports_are_a_json_list_in_the_answer():
    reports = Reports()
    reports.put(1, FOUND)
    assert json.loads(json.dumps({"report": reports}, default=lambda _: None)) == {"report": [None, dict(FOUND)]}


def test_reports_follow_the_batch():
    reports = Reports()
    for position, report in enumerate((FOUND, MISSED, FOUND, MISSED)):
        reports.put(position, report)
    reports.first = 2
    assert reports[0] is reports.copy()[2]
    assert reports[1] is reports.copy()[3]
    assert reports[5] is None
    reports.first = 0
    assert reports[1] is MISSED


def test_paste_gives_each_component_its_own_type():
    made = Settings(enabled=True, weight=1.25, show_mask=True, stride=3, subject="5x5", mask_mode="whole")
    parameters = made.to_infotext()
    assert {field.key: paste_key(field)(parameters) for field in PASTED_FIELDS} == {
        key: BY_KEY[key].empty if value == "" else value
        for key, value in made.to_dict().items()
        if not BY_KEY[key].is_biometric
    } | {field.key: field.empty or field.default for field in PASTED_FIELDS if field in PAGE_PERSON_FIELDS}


@pytest.mark.parametrize("subject", ["", "woman", "the woman; position 4; in red"])
def test_both_persons_come_back_from_an_infotext(monkeypatch, subject):
    """The names of saved identities are found by the photos' hashes; what the page calls the persons stays here."""
    first = {"references": ["x"], "name": "Bob", "subject": "man", "position": 2, "weight": 0.8}
    second = {"references": ["y"], "subject": subject, "position": 1, "weight": 1.2}
    made = Settings(enabled=True, weight=0.8, start=0.1, persons=[first, second])
    parameters = {**made.to_infotext(), **describe_persons(made, ["aa11", "bb22"])}
    assert "Bob" not in str(parameters)
    monkeypatch.setattr(infotext.identities, "name_of_photos", {"aa11": "Bob", "bb22": "Eve"}.get)
    pasted = {field.key: paste_key(field)(parameters) for field in PASTED_FIELDS}
    wanted = {"identity": "Bob", "person_2_identity": "Eve", "subject": "man", "person_2_subject": subject}
    wanted |= {"weight": 0.8, "person_2_weight": 1.2, "person_1_position": "2", "person_2_position": "1"}
    assert {key: pasted[key] for key in wanted} == wanted
    assert pasted["start"] == 0.1
    assert missing_person(parameters) == ""


def test_each_missing_person_is_named(monkeypatch):
    made = Settings(enabled=True, persons=[{"references": ["x"]}, {"references": ["y"]}])
    parameters = {**made.to_infotext(), **describe_persons(made, ["aa11", "bb22"])}
    monkeypatch.setattr(infotext.identities, "name_of_photos", {"aa11": "Bob"}.get)
    assert '(hash "bb22"), which are not saved here' in html.unescape(missing_person(parameters))
    assert "aa11" not in missing_person(parameters)
    more = {**parameters, "BeyondFacial person 3": "cc33; weight 1"}
    assert "3 persons; the page takes two" in missing_person(more)


def test_foreign_infotext_only_switches_off():
    values = {field.key: paste_key(field)({"Steps": "20"}) for field in PASTED_FIELDS}
    assert values.pop("enabled") is False
    assert set(values.values()) == {None}


@pytest.mark.parametrize(
    ("key", "text"), [("weight", "99"), ("weight", "much"), ("stride", "1.5"), ("mask_mode", "no")]
)
def test_paste_of_nonsense_leaves_the_component(key, text):
    field = BY_KEY[key]
    assert paste_key(field)({ENABLED_KEY: "True", field.infotext: text}) is None


def test_paste_key_is_found_by_its_text():
    key = paste_key(BY_KEY["weight"])
    assert key in ["BeyondFacial weight"]
    assert {key: 1} == {"BeyondFacial weight": 1}


def test_a_pasted_person_who_is_not_here_is_named(host, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    saved = TestClient(host.app).post("/beyondfacial/v1/identities", json={"name": "Anna", "references": [photo]})
    known = {ENABLED_KEY: "True", PHOTOS_KEY: saved.json()["photo_hash"]}
    assert missing_person(known) == ""
    assert missing_person({**known, PHOTOS_KEY: "", "BeyondFacial identity": "Anna"}) == ""
    assert missing_person({"Steps": "20"}) == missing_person({ENABLED_KEY: "False", PHOTOS_KEY: "0123456789"}) == ""
    assert "photos (hash &quot;0123456789&quot;)" in missing_person({ENABLED_KEY: "True", PHOTOS_KEY: "0123456789"})
    by_name = missing_person({ENABLED_KEY: "True", PHOTOS_KEY: "0123456789", "BeyondFacial identity": "<Berta>"})
    assert "saved identity &quot;&lt;Berta&gt;&quot; (hash &quot;0123456789&quot;), which is not saved here" in by_name
