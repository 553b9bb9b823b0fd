"""The cost bench at a size that takes seconds: what it counts, how it goes on where it stopped, what it sums up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from bench import cost, cost_models
from bench.cost import Job
from bench.cost_models import Model, Size
from demo.nets.unet import UNetModel

pytestmark = pytest.mark.weights
UNET = {"model_channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "num_heads": 4}
UNET |= {"attention_resolutions": (1, 2), "context_dim": 64}
TINY = Size("tiny", 96, 64, 64, UNET, {"ch": 32, "ch_mult": (1, 1, 1, 1), "num_res_blocks": 1})
STEPS = 10
OWN_DECODING = 96 * 64 / 1e6


@pytest.fixture(scope="module")
def model():
    return Model(TINY)


@pytest.fixture(scope="module")
def run(model):
    """run(method, **of the job) -> its record."""

    def run(method, **changes):
        return cost.run_job(model, Job("tiny", STEPS, method, **changes))

    return run


@pytest.mark.parametrize(
    ("unet", "parameters"),
    [(cost_models.SD15_UNET, 859_520_964), (cost_models.SDXL_UNET, 2_567_463_684 - 5_245_440)],
    ids=["SD1.5", "SDXL without its vector conditioning"],
)
def test_networks_have_the_real_ones_sizes(unet, parameters):
    with torch.device("meta"):
        assert sum(each.numel() for each in UNetModel(**unet).parameters()) == parameters


def test_networks_in_bf16_draw_a_whole_picture_with_fp32_around_them():
    """As on a GPU, with transformers of several blocks as SDXL has them."""
    deep = {**UNET, "attention_resolutions": (2,), "transformer_depth": (1, 2), "num_head_channels": 16}
    model = Model(replace(TINY, unet=deep))
    for network in (model.unet, *model.vae.children()):
        cost_models.compute_in(network, torch.bfloat16)
    assert {each.dtype for each in model.unet.parameters()} == {torch.bfloat16}
    record = cost.run_job(model, Job("tiny", STEPS, "beyondfacial"))
    assert record["unet_rows"] > 2 * STEPS
    assert record["vae_decodes"] > 1


def test_plain_is_two_rows_a_step_and_one_decoding(run):
    record = run("plain")
    assert record["unet_rows"] == 2 * STEPS
    assert record["latent_px"] == 2 * STEPS * 12 * 8
    assert (record["vae_decodes"], record["vae_encodes"]) == (1, 0)
    assert record["vae_megapixels"] == pytest.approx(OWN_DECODING)
    assert record["model_swaps"] == 0
    assert 0 < record["outside_unet"] < 1


def test_absent_is_the_host_without_any_extension(model, run):
    from modules import script_callbacks, scripts

    with cost_models.absent():
        assert not any([scripts.scripts_txt2img.alwayson_scripts, *script_callbacks.callback_map.values()])
    assert scripts.scripts_txt2img.alwayson_scripts
    assert script_callbacks.callback_map["callbacks_cfg_denoiser"]
    assert run(cost.ABSENT)["unet_rows"] == run("plain")["unet_rows"]


def test_ours_redraws_the_scripted_head(run):
    record = run("fast")
    assert record["unet_rows"] == 2 * STEPS + 1 + 8, "one row of the line, and four steps of two rows for the head"
    assert record["latent_px"] == (2 * STEPS + 1) * 12 * 8 + 8 * 8 * 8
    assert (record["vae_decodes"], record["vae_encodes"]) == (3, 3)
    assert record["model_swaps"] == 2, "before the crops and after them"


def test_a_single_line_has_a_row_more_at_each_step(run):
    assert run("single_line")["unet_rows"] == 3 * STEPS


def test_a_detailer_and_the_hosts_hires_pass_come_on_top(run):
    detailer, hires = run("detailer"), run("hires")
    assert detailer["unet_rows"] == 2 * STEPS + 2 * 5
    assert (detailer["vae_decodes"], detailer["vae_encodes"]) == (2, 1)
    assert hires["unet_rows"] == 2 * STEPS + 2 * 5
    assert hires["latent_px"] == 2 * STEPS * 12 * 8 + 2 * 5 * 18 * 12


def test_a_batch_counts_all_its_pictures(run):
    one, four = run("fast"), run("fast", batch=4)
    for name in ("unet_rows", "latent_px", "vae_decodes", "vae_encodes"):
        assert four[name] == 4 * one[name]
    assert four["model_swaps"] == one["model_swaps"]


def test_memory_is_what_is_allocated_at_once(run):
    plain, single = (run(method, is_memory=True)["peak_memory_mb"] for method in ("plain", "single_line"))
    assert 0 < plain < single, "the adapter has to be somewhere"


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    made = []

    def run_job(model, job):
        made.append(job)
        return {"size": job.size, "steps": job.steps, "method": job.method, "batch": job.batch, "number": job.number,
                "is_memory": job.is_memory, "code": "now"}  # fmt: skip

    monkeypatch.setitem(cost_models.SIZES, "tiny", TINY)
    monkeypatch.setattr(cost, "Model", lambda size: type("NoModel", (), {"size": size}))
    monkeypatch.setattr(cost, "run_job", run_job)
    path = tmp_path / "records.jsonl"
    jobs = list(cost.jobs_of("tiny"))
    assert set(cost.collect(["tiny"], path)) == set(made) == set(jobs)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]) + '{"size": "ti')
    made.clear()
    assert set(cost.collect(["tiny"], path)) == set(jobs)
    assert made == jobs[-2:]


def record_of(method, seconds, number=0, px=100):
    counts = {
        "unet_rows": 1,
        "vae_decodes": 1,
        "vae_encodes": 0,
        "vae_megapixels": 0.5,
        "model_swaps": 0,
        "outside_unet": 0.1,
    }
    return Job("tiny", 8, method, number=number), {**counts, "latent_px": px, "seconds": seconds}


def test_rows_are_medians_and_ratios_to_the_plain_run_beside(tmp_path):
    records = dict([
        record_of("plain", 10.0), record_of("plain", 20.0, 1), record_of("plain", 12.0, 2),
        record_of("fast", 11.0, px=120), record_of("fast", 23.0, 1, px=120), record_of("fast", 12.0, 2, px=120),
    ])  # fmt: skip
    records[Job("tiny", 3, "fast", is_memory=True)] = {"peak_memory_mb": 7.0}
    plain, fast = cost.summarise(records)
    assert plain["seconds"] == 12.0
    assert (plain["ratio_to_plain"], plain["row_ratio"], plain["peak_memory_mb"]) == (1.0, 1.0, None)
    assert (fast["ratio_least"], fast["ratio_to_plain"], fast["ratio_most"]) == (1.0, 1.1, 1.15)
    assert (fast["row_ratio"], fast["peak_memory_mb"], fast["repeats"]) == (1.2, 7.0, 3)
    json.dumps([plain, fast])
