"""Every method on two pairs and three steps, through the embedded host; then the table made of it, resumed, and made
anew."""

import json
from dataclasses import asdict, replace

import jsonschema
import numpy as np
import pytest
from PIL import Image

from bench import quality, subset
from bench.collect import Bench
from bench.judges import draw_at_size
from bench.methods import METHODS, TABLE
from bench.painter import Painter, Sampling
from bench.pairs import make_batches, make_pairs
from bench.records import read_records, write_records
from bench.tables import COLUMNS
from demo.dollhouse.world import SIZE
from lib_beyondfacial.method import head_refinement

pytestmark = pytest.mark.weights
ISSUES = list(TABLE)
OTHERS = (
    "stride_2",
    "idap_prior",
    "branch_rescaled",
    "activation_map",
    "crop_weight_0.7",
)  # test_alternatives: the rest
MADE = [*ISSUES, *(METHODS[name] for name in OTHERS)]
STEPS = 5
CALLS = 4  # DDIM asks at all levels but the last
PLAIN_ROWS = 2 * CALLS


@pytest.fixture(scope="module")
def batch():
    return next(batch for batch in make_batches(make_pairs(4), 2) if len(batch) == 2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench("tuning", Sampling(steps=STEPS, sampler_name="DDIM"), "cpu", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def collected(bench, batch):
    return bench.collect(MADE, [batch])


@pytest.fixture(scope="module")
def table(bench, collected, tmp_path_factory):
    """The table's own methods, written as the command writes them."""
    out, records = tmp_path_factory.mktemp("out"), {method.name: collected[method.name] for method in ISSUES}
    about = {"split": "tuning", "sampling": asdict(bench.sampling), "batch": 2, "weights": "w"}
    text = quality.write_table(out, records, about, ISSUES)
    return out, records, about, text


def test_every_method_makes_its_own_pictures(collected, batch):
    assert list(collected) == [method.name for method in MADE]
    pictures = {name: [record["picture"] for record in records] for name, records in collected.items()}
    for name, records in collected.items():
        assert [record["pair"] for record in records] == sorted(pair.index for pair in batch)
        assert name == "plain" or pictures[name] != pictures["plain"]
        for record in records:
            measured = [column for column in COLUMNS if name != "plain" or not column.startswith("outside")]
            assert all(np.isfinite(record[column]) for column in measured)
            assert (record["box"] is not None) == bool(record["found"])
            assert 0 <= record["ceiling"] <= 1
            assert record["seconds"] > 0
    alike = ("minus_smoothing", "stride_2")  # as the defaults where one level is fused before all heads are refined
    others = [method.name for method in MADE if method.name not in alike]
    assert len({tuple(pictures[name]) for name in others}) == len(others)


def test_of_a_run_that_was_ended_the_whole_batches_are_known(bench, batch, collected):
    other = [pair for pair in make_pairs(8) if pair.index > max(p.index for p in batch)]
    kept = bench.kept([METHODS["ink"], *ISSUES], [batch, other])
    assert kept == {method.name: collected[method.name] for method in ISSUES}


def test_unet_rows_are_those_that_ran(collected):
    rows = {name: records[0]["unet_rows"] for name, records in collected.items()}
    assert rows["plain"] == PLAIN_ROWS
    assert rows["single_line"] == PLAIN_ROWS + CALLS
    assert rows["single_line_late"] == PLAIN_ROWS + CALLS - 1
    assert rows["minus_refinement"] == PLAIN_ROWS + CALLS - 2  # begun at .3
    assert rows["saliency_only"] == PLAIN_ROWS + CALLS
    refined = {head_refinement.rows_of_a_head() - rested for rested in range(CALLS)}  # then the line may rest
    assert rows["beyondfacial"] - rows["minus_refinement"] in refined
    for name in ("plus_start_identity", "idap_prior"):
        assert rows[name] - 1 - rows["minus_refinement"] in refined  # the look-ahead's row
    for name, before in (("detailer", "plain"), ("detailer_refined", "plain"), ("late_detailer", "single_line_late")):
        of_head = head_refinement.rows_of_a_head() if name == "detailer_refined" else 2 * (int(0.4 * STEPS) + 1)
        assert rows[name] - rows[before] in (0, of_head / 2, of_head)  # of none, one or both of the pictures


def test_masks_flicker_where_they_can(collected):
    flicker = {name: [record["flicker"] for record in records] for name, records in collected.items()}
    assert flicker["plain"] == [None, None]
    assert flicker["single_line"] == flicker["oracle_mask"] == [0.0, 0.0]
    assert all(0 < value <= 1 for value in flicker["saliency_only"] + flicker["minus_refinement"])
    assert collected["single_line"][0]["coverage"] == 1
    boxes = [record["box"] for record in collected["plain"]]
    areas = [(b[2] - b[0]) * (b[3] - b[1]) if b else 0.0 for b in boxes]
    assert [record["coverage"] for record in collected["oracle_mask"]] == pytest.approx(areas, abs=1e-4)


@pytest.mark.parametrize("name", ["plain", "beyondfacial"])
def test_a_batch_is_its_pictures_made_one_by_one(bench, batch, collected, name):
    kept = bench.pictures(METHODS[name], batch)
    for pair, together in zip(batch, kept, strict=True):
        alone = bench.painter.paint([pair], METHODS[name])
        assert np.abs(alone.images[0].astype(int) - together.astype(int)).max() <= 2
        rows = collected[name][0][
            "unet_rows"
        ]  # of a batch; alone a picture may have no head to be refined, or earlier
        assert alone.rows == rows if name == "plain" else rows - head_refinement.rows_of_a_head() <= alone.rows <= rows


def test_a_second_run_reads_what_the_first_one_made(bench, batch, collected, monkeypatch):
    def refuse(*args):
        raise AssertionError("painted again")

    monkeypatch.setattr(Painter, "paint", refuse)
    methods = MADE
    assert Bench("tuning", bench.sampling, "cpu", bench.cache).collect(methods, [batch]) == collected
    store = bench.store(METHODS["plus_start_identity"])
    store.path.write_bytes(store.path.read_bytes()[:-5])
    with pytest.raises(AssertionError, match="painted again"):
        Bench("tuning", bench.sampling, "cpu", bench.cache).collect(methods, [batch])
    store.add(collected["plus_start_identity"])


def test_the_json_has_the_issues_form(table):
    out, *_ = table
    number, ci = {"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    row = {"method": {"type": "string"}, "n": {"const": 2}}
    plains = [column for column in COLUMNS if not column.startswith("outside")]
    row |= {column: number for column in plains} | {f"{column}_ci": ci for column in plains}
    rows = {"type": "array", "items": {"type": "object", "properties": row, "required": list(row)}}
    form = {"type": "object", "properties": {"similarity_ceiling": number, "rows": rows}}
    content = json.loads((out / "quality_tuning.json").read_text())
    jsonschema.validate(content, form | {"required": ["similarity_ceiling", "rows"]})
    assert [row["method"] for row in content["rows"]] == [method.name for method in ISSUES]
    for row in content["rows"]:
        assert row["similarity_ci"][0] <= row["similarity"] <= row["similarity_ci"][1]
    bases = {(d["method"], d["base"]) for d in content["differences"]}
    assert {("beyondfacial", "plain"), ("plus_start_identity", "beyondfacial")} <= bases


def test_markdown_and_plots_show_every_method(table):
    out, _, _, text = table
    assert all(f"| {method.name} |" in text for method in ISSUES)
    plots = sorted(path.name for path in out.glob("*.png"))
    assert plots == [f"quality_tuning_{name}.png" for name in ("area", "change", "scene", "shot")]
    for name in plots:
        pixels = np.asarray(Image.open(out / name).convert("RGB"))
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    assert quality.plots.check_size(out) < 2 * 2**20


def test_a_folder_of_too_many_bytes_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(bytes(2 * 2**20 + 1))
    with pytest.raises(SystemExit, match="2 MB"):
        quality.plots.check_size(tmp_path)


def test_subset_check_finds_a_forged_record(table):
    out, records, about, _ = table
    methods = [METHODS["beyondfacial"]]
    packed = read_records(out / "quality_tuning_records.jsonl.gz")
    assert packed == records
    verdicts = subset.recompute(packed, about, methods, 1, 7, "cpu")
    for verdict in verdicts.values():
        assert verdict["agrees"]
        assert verdict["bit_equal"] == verdict["n"] == 2
    forged = [{**record, "picture": "0", "similarity": 0.99} for record in packed["plain"]]
    verdict = subset.compare(forged, packed["plain"])
    assert verdict["bit_equal"] == 0
    assert not verdict["agrees"]
    assert "similarity" in subset.to_markdown({"plain": verdict})


def test_a_subset_is_of_whole_batches_and_follows_from_its_seed():
    records = [{"batch": [2 * (i // 2), 2 * (i // 2) + 1]} for i in range(40)]
    chosen = subset.choose_batches(records, 9, 1)
    assert len(chosen) == 5
    assert chosen == subset.choose_batches(records, 9, 1) != subset.choose_batches(records, 9, 2)
    assert len(subset.choose_batches(records, 99, 1)) == 20


def test_the_command_writes_refuses_and_checks(table, tmp_path, capsys, monkeypatch):
    out, records, about, _ = table
    with pytest.raises(SystemExit, match="compute it first"):
        quality.main(["--subset", "2", "--out", str(tmp_path)])
    verdict = subset.compare(records["plain"], records["plain"])
    monkeypatch.setattr(subset, "recompute", lambda *args: {"plain": verdict})
    assert quality.main(["--subset", "2", "--out", str(out), "--methods", "plain"]) == 0
    assert "weights have changed" in capsys.readouterr().out
    changed = subset.compare([{**r, "unet_rows": 99.0} for r in records["plain"]], records["plain"])
    monkeypatch.setattr(subset, "recompute", lambda *args: {"plain": changed})
    assert quality.main(["--subset", "2", "--out", str(out), "--methods", "plain"]) == 1
    write_records(out / "again.gz", records)
    assert (out / "again.gz").read_bytes() == (out / "quality_tuning_records.jsonl.gz").read_bytes()


def test_the_picture_itself_is_no_face(bench, batch, monkeypatch):
    judges, image = bench.judges, draw_at_size(batch[0], 0.11, SIZE)
    head = judges.analyser.find(image)[0]
    whole = replace(head, box=np.array([-9, -9, SIZE + 9, SIZE + 9], np.float32), embedding=judges.person(batch[0]))
    monkeypatch.setattr(judges.analyser, "find", lambda image: [whole, head])
    assert judges.measure_face(batch[0], image)["face_area"] < 0.1
    monkeypatch.setattr(judges.analyser, "find", lambda image: [whole])
    missed = judges.measure_face(batch[0], image)
    assert (missed["found"], missed["similarity"], missed["box"]) == (0, 0.0, None)


def test_the_ceiling_is_drawn_at_the_found_heads_size(bench, batch, collected):
    judges, pair = bench.judges, batch[0]
    for radius in (0.11, 0.16, 0.29):
        face = judges.analyser.find(draw_at_size(pair, radius, SIZE))[0]
        assert face.area / SIZE**2 == pytest.approx(2.1 * 2.2 * radius**2, rel=0.2)
    small, large = (judges.ceiling(pair, area, SIZE)["similarity"] for area in (0.056, 0.39))
    assert large > small - 0.05
    assert large > 0.5
