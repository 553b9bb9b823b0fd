"""What a finished chain leaves: weights that the real loaders load, its figures, and a bundle to go on from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from demo.dollhouse.evaluate import Evaluator
from demo.dollhouse.train import diffusion
from demo.dollhouse.train.all import SHORT, STAGES, Chain, run_chain
from demo.dollhouse.train.bundle import PART, read_bundle, write_bundle
from demo.dollhouse.train.figures import TARGETS, rows_of, write_figures
from demo.dollhouse.train.measure import Generator
from demo.dollhouse.train.run import Plan, Run
from demo.sd1.model import load_model


def test_the_host_loads_the_checkpoint(chain):
    model, trained_parts = load_model(chain.out / "models"), diffusion.load_base(chain)
    tokenizer, text = model.cond_stage_model.tokenizer, model.cond_stage_model.transformer
    ids = tokenizer("a man", padding="max_length", max_length=77, return_tensors="pt").input_ids
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        cond = text(ids).last_hidden_state
        assert torch.allclose(cond, trained_parts.cond(ids), atol=1e-5, rtol=0)
        assert torch.equal(model.apply_model(x, t, {"c_crossattn": [cond]}), trained_parts.unet(x, t, cond))
    assert model.decode_first_stage(x).shape == (1, 3, 64, 64)
    params = yaml.safe_load(chain.checkpoint.with_suffix(".yaml").read_text())["model"]["params"]
    assert params["image_size"] == 8
    assert params["first_stage_config"]["params"]["ddconfig"]["resolution"] == 64


def test_insightface_loads_the_packs(chain):
    from insightface.app import FaceAnalysis

    for which in ("feed", "judge"):
        app = FaceAnalysis(name=str(chain.pack(which)), providers=["CPUExecutionProvider"])
        app.prepare(ctx_id=-1, det_size=(64, 64))
        assert set(app.models) == {"detection", "recognition"} | ({"genderage"} if which == "feed" else set())
        assert app.det_model.input_size == (64, 64)
        assert app.models["recognition"].get_feat(np.zeros((112, 112, 3), np.uint8)).shape == (1, 512)


def test_the_extension_loads_the_adapter(chain):
    from lib_beyondfacial.adapters.registry import get_adapter, list_adapters

    adapter = get_adapter("", list_adapters([chain.adapter.parent]))
    assert (adapter.spec.family, adapter.spec.tokens, adapter.spec.context_dim) == ("faceid", 4, 128)


def test_the_adapter_starts_from_the_texts_keys_and_values(chain):
    trained, base = load_file(chain.adapter), load_file(chain.checkpoint)
    name = "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    off = (trained["ip_adapter.1.to_k_ip.weight"].float() - base[name].float()).abs().max()
    assert 0 < off < 0.02  # three steps away


def test_the_evaluator_loads_and_generated_pictures_have_the_size(chain):
    images = Generator(chain, with_adapter=False)(["a man in the cave"])
    assert images.shape == (1, 64, 64, 3)
    assert Evaluator.load(chain.evaluator).judge(images)["shot"].shape == (1,)


def test_a_finished_chain_has_nothing_to_do(chain):
    stamps = {p: p.stat().st_mtime_ns for p in chain.out.rglob("*.safetensors")}
    state = (chain.cache / "chain.json").read_bytes()
    assert run_chain(chain, SHORT)
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}
    assert (chain.cache / "chain.json").read_bytes() == state
    assert Chain.load(chain.cache / "chain.json").finished == [stage.name for stage in STAGES]


def test_a_bundle_carries_everything_over(chain, tmp_path):
    parts = write_bundle(chain, tmp_path / "bundle", {stage.name for stage in STAGES})
    assert len(parts) >= 2
    assert all(part.stat().st_size <= PART <= 16 * 2**20 for part in parts)
    there = replace(chain, out=tmp_path / "out", cache=tmp_path / "cache")
    assert read_bundle(there, tmp_path / "bundle")
    for path in chain.out.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (there.out / path.relative_to(chain.out)).read_bytes()
    assert run_chain(there, SHORT)
    assert not list(there.cache.glob("run_*.pt"))
    assert not read_bundle(there, tmp_path / "nothing")


def test_an_unfinished_run_goes_on_from_its_average(chain, tmp_path):
    write_bundle(chain, tmp_path / "bundle", {"feed"})
    there = replace(chain, out=tmp_path / "out", cache=tmp_path / "cache")
    read_bundle(there, tmp_path / "bundle")
    assert not (there.cache / "run_recogniser_feed.pt").exists()
    state = torch.load(chain.cache / "run_diffusion.pt", weights_only=True)
    model = diffusion.TextToLatent(there)
    run = Run(there, "diffusion", model, Plan(9, 4, 1e-3))
    assert (run.step, run.first) == (3, 3)
    for part, reference in zip(run.trained, state["ema"], strict=True):
        assert torch.equal(part.data, reference.half().float())


def test_time_is_shared_by_what_is_left_to_do(tmp_path):
    chain = Chain(tmp_path / "chain.json")
    shares = {stage.name: stage.share for stage in STAGES}
    assert sum(shares.values()) == pytest.approx(1)
    by_name = {stage.name: stage for stage in STAGES}
    first = chain.grant(by_name["vae"], 1000)
    chain.finished, chain.seconds = ["feed", "vae", "decoder"], 500
    later = chain.grant(by_name["diffusion"], 1000)
    left = 1 - shares["feed"] - shares["vae"] - shares["decoder"]
    assert first == pytest.approx(880 * shares["vae"])
    assert later == pytest.approx(440 * shares["diffusion"] / left)
    assert chain.grant(by_name["vae"], 4000) == first  # once granted, a share stays


def test_the_table_says_what_is_met_short_or_missing(tmp_path):
    (tmp_path / "card.json").write_text(
        json.dumps(
            {
                "generated_plain": {"shot": 0.96, "scene": 0.5},
                "pack_dollhouse": {"renders": {"iou_full": float("nan")}},
            }
        )
    )
    rows = {(row["model"], row["figure"]): row["verdict"] for row in rows_of(tmp_path)}
    assert len(rows) == len(TARGETS) + 1
    assert rows["unet", "shot"] == "PASS"
    assert rows["unet", "scene"] == "short"
    assert rows["unet", "action"] == "not yet"
    assert rows["detector", "mean overlap at full shot"] == "short"
    assert rows["all", "megabytes"] == "PASS"
    text = write_figures(tmp_path)
    assert (tmp_path / "figures.txt").read_text() == text
    assert "NaN" not in (tmp_path / "figures.json").read_text()


def test_every_target_has_its_figure(chain):
    assert {row["verdict"] for row in rows_of(chain.out)} <= {"PASS", "short"}
