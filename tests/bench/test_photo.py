"""bench.photo against the embedded host with Dollhouse: a run that is ended and goes on, its page, its result file."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from bench.painter import WEIGHTS
from bench.pairs import make_pairs
from bench.photo import __main__ as photo
from bench.photo import jobs, judging, page, summary
from bench.photo.webui import Made, WebUI
from demo.dollhouse.world import SIZE
from tests.serving import serving

JUDGE = WEIGHTS / "judge" / "dollhouse_judge"
PACK = WEIGHTS / "models" / "insightface" / "models" / "dollhouse"
TEXTS = (
    "# two scenes\nphoto of a {person} running in the city, full body\n\nphoto of a {person} standing on the beach\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two persons with two photos each, somebody with one, and two prompts."""
    root = tmp_path_factory.mktemp("photo")
    for name, pair, count in zip(("anna", "ben", "carl"), make_pairs(3), (2, 2, 1), strict=True):
        (root / "persons" / name).mkdir(parents=True)
        for k, pixels in enumerate([pair.photo, *pair.more_photos(1)][:count]):
            Image.fromarray(pixels).save(root / "persons" / name / f"{k}.png")
        (root / "persons" / name / "word.txt").write_text(pair.person.gender)
    (root / "prompts.txt").write_text(TEXTS)
    return root


@pytest.fixture(scope="module")
def run(folder):
    """The command's arguments, once everything was made: two persons, two prompts, four methods."""
    with serving("demo.miniwebui", folder / "host.log", OMP_NUM_THREADS="1") as served:
        given = [
            "--url",
            served.address,
            "--persons",
            str(folder / "persons"),
            "--prompts",
            str(folder / "prompts.txt"),
        ]
        given += ["--out", str(folder / "out"), "--judge", str(JUDGE), "--size", f"{SIZE}x{SIZE}", "--steps", "4"]
        given += ["--cfg-scale", "5", "--methods", "plain", "single", "ours", "ours_without_refinement"]
        (folder / "out").mkdir()
        assert photo.main([*given, "--first", "1"]) == 0
        begun = (folder / "out" / "records.jsonl").read_bytes()
        (folder / "out" / "records.jsonl").write_bytes(begun[:-20])  # as where it was killed
        assert photo.main(given) == 0
        asked = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WebUI, "txt2img", lambda *request: asked.append(request))
            assert photo.main(given) == 0
        assert asked == []
    return folder / "out", given, begun


@pytest.mark.weights
def test_every_picture_is_made_once_and_measured(run):
    out, _, begun = run
    content = json.loads((out / "result.json").read_text())
    assert [row["n"] for row in content["rows"]] == [4] * 4
    assert content["about"]["same_recogniser"] is False
    assert content["about"]["feeding"].startswith("dollhouse:")
    by_method = {row["method"]: row for row in content["rows"]}
    assert by_method["ours"]["similarity"] > by_method["plain"]["similarity"]
    assert by_method["plain"]["probe_hit"] is by_method["single"]["probe_hit"] is None
    assert not [warning for warning in content["warnings"] if "mask_mode" in warning]
    assert by_method["ours_without_refinement"]["probe_hit"] is not None
    assert by_method["ours"]["clip"] is None
    lines = [
        json.loads(line) for line in (out / "records.jsonl").read_bytes().split(b"\n")[:-1] if line.endswith(b"}")
    ]
    assert len({line["key"] for line in lines}) == 16
    kept = begun.split(b"\n")[1]
    assert kept in (out / "records.jsonl").read_bytes()


@pytest.mark.weights
def test_the_result_file_has_no_picture_and_no_name_and_the_page_has_pictures(run):
    out, _, _ = run
    text, html = ((out / name).read_text() for name in ("result.json", "page.html"))
    assert "anna" not in text + html
    assert "base64" not in text
    assert html.count("data:image/jpeg") == 2 * 5  # a photo and four methods, for each of two prompts
    assert html.count("data:image/png") == 1
    assert "class='red'" not in html
    assert "running in the city" in html


@pytest.mark.weights
def test_a_wrong_unit_and_a_web_ui_that_is_not_there_are_told(run, folder):
    _, given, _ = run
    with pytest.raises(SystemExit, match="does not answer"):
        photo.main(given)  # the host has ended
    with pytest.raises(SystemExit, match="sub-folder"):
        jobs.read_subjects(folder / "nothing")
    (folder / "bad.txt").write_text("photo of a man\n")
    with pytest.raises(SystemExit, match="person"):
        jobs.read_prompts(folder / "bad.txt")


def test_fifty_prompts_are_shipped():
    prompts = jobs.read_prompts(jobs.PROMPTS)
    assert len(prompts) == len(set(prompts)) == 50
    assert all("full body" in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("space", "feeding", "same"),
    [("a:1", "a:1", True), ("b:1", "a:1", True), ("a:2", "a:1", False), ("a:1", "a", True), ("b:1", "a", False)],
)
def test_packs_are_told_apart_by_their_recogniser(space, feeding, same):
    assert judging.is_same_pack(space, feeding) is same


@pytest.mark.weights
def test_the_same_recogniser_is_said_in_red():
    analyser = judging.choose_pack(PACK, None, "")
    assert judging.is_same_pack(analyser.space, analyser.space)
    rows = [summary.row_of("plain", [record()])]
    about = {"persons": 1, "prompts": 1, "same_recogniser": True}
    content = {"about": about, "rows": rows, "by_ratio": {"plain": summary.by_ratio([record()])}, "warnings": ["<b>"]}
    html = page.write(content, [], {}, [])
    assert "class='red'" in html
    assert "&lt;b&gt;" in html


def record(**values):
    base = {"method": "plain", "faces": 1, "expected": 1, "similarity": 0.5, "similarity_fed": 0.7, "face_ratio": 0.03}
    base |= {"angle_more": 5.0, "angle_photos": 20.0, "clip": None, "probe_hit": None, "seconds": 2.0, "warnings": []}
    return {**base, **values}


def test_misses_count_as_zero_and_are_left_out():
    missed = record(faces=0, similarity=None, similarity_fed=None, face_ratio=0.0, angle_more=None)
    row = summary.row_of("ours", [record(), missed, record(face_ratio=0.5, faces=2)])
    assert row["similarity"] == pytest.approx(1 / 3, abs=1e-4)
    assert row["similarity_found"] == 0.5
    assert (row["found"], row["count_right"], row["close_up"]) == pytest.approx((2 / 3, 1 / 3, 1 / 3), abs=1e-4)
    assert row["copying"] == 0.25
    assert row["clip"] is None
    bins = summary.by_ratio([record(), missed])
    assert [entry["n"] for entry in bins] == [0, 0, 1, 0, 0, 0]


def test_the_masks_centre_is_to_lie_in_the_faces_box():
    mask = np.zeros((40, 80), np.uint8)
    mask[10:14, 60:64] = 255
    assert judging.hits(mask, (0.7, 0.2, 0.9, 0.4)) == 1
    assert judging.hits(mask, (0.1, 0.2, 0.3, 0.4)) == 0
    assert judging.hits(np.zeros_like(mask), (0, 0, 1, 1)) == 0


@pytest.mark.weights
def test_without_a_face_everything_of_it_is_missing(folder):
    analyser = judging.choose_pack(JUDGE, None, "")
    known = judging.know(jobs.read_subjects(folder / "persons")[0], analyser)
    empty = np.full((SIZE, SIZE, 3), 90, np.uint8)
    found = judging.measure(Made(empty, empty[..., 0], [], 1.0), known, analyser)
    assert (found["faces"], found["similarity"], found["face_ratio"], found["probe_hit"]) == (0, None, 0.0, 0)


def test_a_reference_is_the_fed_photo(folder):
    subject = jobs.read_subjects(folder / "persons")[1]
    again = np.asarray(Image.open(io.BytesIO(base64.b64decode(subject.reference))))
    assert np.array_equal(again, subject.fed)
    assert not np.array_equal(subject.fed, subject.other)
    assert subject.number == 2
