"""A chain that begins with shipped weights: they are the same ones, in the forms that training wants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file

from demo.dollhouse.train import diffusion
from demo.dollhouse.train.adapter import load_adapter, read_adapter
from demo.dollhouse.train.all import STAGES
from demo.dollhouse.train.common import load_vae
from demo.dollhouse.train.recogniser import load_feed
from demo.dollhouse.train.text import write_tokenizer
from demo.dollhouse.train.warm import warm_up


def test_the_recogniser_comes_back_out_of_its_file(chain, tmp_path):
    there = replace(chain, out=tmp_path / "out", cache=tmp_path / "cache")
    warm_up(there, chain.out)
    crops = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1
    session = onnxruntime.InferenceSession(chain.pack("feed") / "rec.onnx", providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: crops.numpy()})[0]
    found = load_feed(there)(crops).numpy()
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_warm_start_copies_autoencoder_and_recognisers(chain, tmp_path):
    there = replace(chain, out=tmp_path / "out", cache=tmp_path / "cache")
    assert set(warm_up(there, chain.out)) == {stage.name for stage in STAGES[:8]}
    write_tokenizer(there.clip)
    result = load_vae(there).state_dict()
    base = diffusion.TextToLatent(there)
    diffusion.begin_with(base, load_file(there.cache / "base_first.safetensors"))
    for a, b in zip(base.parameters(), diffusion.load_base(chain).parameters(), strict=True):
        assert torch.equal(a, b)
    adapter = read_adapter(there.cache / "adapter_first.safetensors", base.unet)
    for a, b in zip(adapter.parameters(), load_adapter(chain, base.unet).parameters(), strict=True):
        assert torch.equal(a, b)
    for name, value in load_file(chain.checkpoint).items():
        if name.startswith("first_stage_model."):
            assert torch.equal(result[name.removeprefix("first_stage_model.")], value.float())
    for which in ("feed", "judge"):
        for path in chain.pack(which).iterdir():
            assert path.read_bytes() == (there.pack(which) / path.name).read_bytes()
    assert there.evaluator.read_bytes() == chain.evaluator.read_bytes()
    assert there.card()["recogniser_judge"] == chain.card()["recogniser_judge"]
    assert "renders" not in there.card()["evaluator"]  # to be measured anew


def test_another_size_trains_its_own_autoencoder(chain, tmp_path):
    there = replace(chain, size=96, out=tmp_path / "out", cache=tmp_path / "cache")
    assert not {"vae", "decoder"} & set(warm_up(there, chain.out))
    assert (there.cache / "vae_first.safetensors").exists()
    assert not (there.cache / "vae.safetensors").exists()
