"""The lines under the pictures, the best of a batch, and the host's settings of masks and adapters."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from fastapi.testclient import TestClient

from demo.miniwebui import shared
from lib_beyondfacial.sampling.report import Report
from lib_beyondfacial.sampling.shortfalls import NOT_ACTED, NOT_REFINED
from lib_beyondfacial.settings import Settings
from lib_beyondfacial.webui import host_settings, infotext, neighbours, run_report
from lib_beyondfacial.webui.pictures import Picture
from tests.webui.test_person import RUN


def picture(similarity, area=0.05, refined=(True,), note=""):
    report = infotext.Report(similarity=similarity, face_area=area, mask_coverage=0.1)
    if note:
        report["note"] = note
    return Picture(None, 0, report, None, None, refined=refined)


@pytest.mark.parametrize(
    ("shown", "pack", "expected"),
    [
        (picture(0.951), "buffalo_l", "similarity .95 (same person), face 5% of the picture, head refined"),
        (picture(0.3, 0.004), "antelopev2", "similarity .30 (similar), face 0.4% of the picture, head refined"),
        (picture(-0.02, 0.2, ()), "buffalo_l", "similarity -.02 (another face), face 20% of the picture"),
        (picture(0.5), "someones", "similarity .50, face 5% of the picture, head refined"),
        (
            picture(None, 0.0, (), "the identity never acted"),
            "buffalo_l",
            "no face found, the identity never acted",
        ),
    ],
)
def test_a_picture_is_told_in_one_line(shown, pack, expected):
    assert run_report.describe(shown, pack) == [expected]


def output_of(pictures, **settings):
    analyser = SimpleNamespace(name="buffalo_l")
    return SimpleNamespace(
        pictures=pictures,
        persons=(SimpleNamespace(analyser=analyser),),
        settings=Settings(**settings),
        shows_mask=False,
    )


def test_each_of_two_persons_has_a_line_with_a_name():
    shown = picture(0.1, refined=(True, False), note="the head was not refined")
    shown.report["persons"] = [{"similarity": 0.95, "face_area": 0.05}, {"similarity": 0.1, "face_area": 0.02}]
    persons = [{"references": ["x"], "name": "Anna"}, {"references": ["y"]}]
    assert run_report.report_lines(output_of({0: shown}, persons=persons)) == [
        "BeyondFacial picture 1, Anna: similarity .95 (same person), face 5% of the picture, head refined",
        "BeyondFacial picture 1, person 2: similarity .10 (another face), face 2% of the picture, "
        "the head was not refined",
    ]
    assert run_report.person_names(Settings(persons=[{"identity": "Eve"}, {"identity": "Bob", "name": "B"}])) == [
        "Eve",
        "B",
    ]


def test_the_best_of_several_is_marked():
    pictures = {0: picture(0.4), 1: picture(0.9), 2: picture(None)}
    output = output_of(pictures)
    lines = run_report.report_lines(output)
    assert [line.endswith("; the best of 3") for line in lines] == [False, True, False]
    assert lines[0].startswith("BeyondFacial picture 1: similarity .40")
    output.pictures = {0: picture(0.4)}
    assert run_report.best_position(output) is None
    output.pictures = {0: picture(None), 1: picture(None)}
    assert run_report.best_position(output) is None


@pytest.fixture
def answer(host, photo):
    def ask(**unit):
        scripts = {"BeyondFacial": {"args": [{"references": [photo], "adapter": "fits", **unit}]}}
        request = {**RUN, "batch_size": 2, "alwayson_scripts": scripts}
        result = TestClient(host.app).post("/sdapi/v1/txt2img", json=request).json()
        return result, json.loads(result.get("info", "{}"))

    return ask


def test_the_api_names_the_best_picture(answer):
    _, info = answer()
    reports = info["extra_generation_params"][infotext.REPORT_KEY]
    similarities = [report["similarity"] for report in reports]
    best = info["extra_generation_params"].get(infotext.BEST_KEY)
    if any(value is not None for value in similarities):
        assert similarities[best] == max(value for value in similarities if value is not None)
    else:
        assert best is None


def test_masks_say_whose_they_are(answer):
    result, info = answer(show_mask=True)
    assert len(result["images"]) == 4
    for position in (0, 1):
        assert info["infotexts"][2 + position].endswith(f"{infotext.MASK_KEY}: of picture {position + 1}")


def test_masks_are_saved_where_the_host_says_so(answer, monkeypatch):
    saved = []
    monkeypatch.setattr(neighbours, "save_mask", lambda p, mask, position, text: saved.append(position) or "file")
    assert len(answer()[0]["images"]) == 2
    monkeypatch.setitem(shared.opts.data, host_settings.SAVE_MASKS, True)
    assert len(answer()[0]["images"]) == 2
    assert saved == [0, 1]


def test_always_showing_masks_is_about_the_page(answer, monkeypatch):
    monkeypatch.setitem(shared.opts.data, host_settings.ALWAYS_MASK, True)
    assert len(answer()[0]["images"]) == 2


def test_the_hosts_default_adapter_is_taken(answer, monkeypatch):
    monkeypatch.setitem(shared.opts.data, host_settings.DEFAULT_ADAPTER, "text")
    assert "text" in answer(adapter="")[0]["detail"]
    monkeypatch.setitem(shared.opts.data, host_settings.DEFAULT_ADAPTER, "fits")
    assert answer(adapter="")[1]["extra_generation_params"]["BeyondFacial adapter"] == "fits"


def test_our_settings_are_declared_with_their_defaults(host):
    assert {key: shared.opts.data[key] for key in host_settings.SETTINGS} == {
        key: default for key, (default, _) in host_settings.SETTINGS.items()
    }


def test_the_line_on_the_cost_is_of_what_was_counted():
    report, latents = Report(), torch.zeros(1, 4, 64, 96)
    assert run_report.cost_lines(report) == []
    report.note_host(60, latents)
    report.note_rows(9, latents)
    expected = "BeyondFacial: 15% more UNet work (without the autoencoder)"
    assert run_report.cost_lines(report) == [expected]
    assert run_report.cost_lines(report, has_plain=True) == [f"{expected}; the plain picture comes on top"]


def test_a_mask_is_told_of_where_it_is_shown_and_covers_something():
    shown = picture(0.9)
    output = output_of({0: shown})
    output.shows_mask = True
    assert "mask" not in run_report.report_lines(output)[0]
    shown.mask = object()
    assert run_report.report_lines(output)[0].endswith("head refined; mask 10% of the picture")
    shown.report["mask_coverage"] = 0.0
    assert "mask" not in run_report.report_lines(output)[0]
    two = picture(0.9, refined=(True, True))
    two.report["persons"], two.mask = [{"similarity": 0.9, "face_area": 0.05}] * 2, object()
    output = output_of({0: two}, persons=[{"identity": "Anna"}, {"identity": "Bob"}])
    output.shows_mask = True
    assert run_report.report_lines(output)[2:] == ["BeyondFacial picture 1: mask 10% of the picture"]


def test_another_face_is_warned_of():
    pictures = {0: picture(-0.01), 1: picture(0.9), 2: picture(0.1)}
    assert run_report.missing_faces(output_of(pictures)) == [
        "The person in pictures 1 and 3 does not look like the photo (similarity -.01 and .10); try another seed, "
        '"weight" up or "start" down.'
    ]
    assert not run_report.missing_faces(output_of({0: picture(0.3), 1: picture(0.1, note=NOT_ACTED)}))
    unknown = output_of({0: picture(-0.01)})
    unknown.persons[0].analyser.name = "someones"
    assert not run_report.missing_faces(unknown)


def test_a_face_that_the_finished_picture_lost_is_warned_of(monkeypatch):
    """Its head was refined, or it needed none, so nothing else tells of it."""
    pictures = {0: picture(None), 1: picture(0.9), 2: picture(None), 3: picture(None, note=NOT_REFINED)}
    assert run_report.missing_faces(output_of(pictures)) == [
        "The person has no face in pictures 1 and 3, as far as the face pack can tell; try another seed or a larger "
        "size, or let the prompt show the face."
    ]
    shown = picture(None)
    shown.report["persons"] = [{"similarity": 0.95, "face_area": 0.05}, {"similarity": None, "face_area": 0.0}]
    (sentence,) = run_report.missing_faces(output_of({0: shown}, persons=[{"identity": "Anna"}, {"identity": "Bob"}]))
    assert sentence.startswith("Person 2 has no face in picture 1, ")
    monkeypatch.setattr(run_report, "is_interrupted", lambda: True)
    assert not run_report.missing_faces(output_of(pictures))


def test_the_warning_names_which_of_two_persons_is_another():
    shown = picture(0.1)
    shown.report["persons"] = [{"similarity": 0.95, "face_area": 0.05}, {"similarity": 0.1, "face_area": 0.02}]
    persons = [{"identity": "Anna"}, {"identity": "Bob", "name": "Eve"}]
    (sentence,) = run_report.missing_faces(output_of({0: shown}, persons=persons))
    assert sentence.startswith("Eve in picture 1 does not look like the photo (similarity .10)")
    shown.report["swapped"] = True
    assert not run_report.missing_faces(output_of({0: shown}, persons=persons))
    persons[1]["weight"], shown.report["swapped"] = 0.0, False
    assert not run_report.missing_faces(output_of({0: shown}, persons=persons))
