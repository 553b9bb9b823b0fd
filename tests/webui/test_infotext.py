"""Reports and paste keys."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from demo.miniwebui import shared
from lib_beyondfacial.settings import BY_KEY, Settings
from lib_beyondfacial.webui.infotext import (
    ENABLED_KEY,
    PASTED_FIELDS,
    PHOTOS_KEY,
    Report,
    Reports,
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
    }


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
