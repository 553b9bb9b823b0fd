"""A chain that begins with shipped weights: they are the same ones, in the forms that training wants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file

from demo.dollhouse.train.recogniser import load_feed
from demo.dollhouse.train.vae import load_vae
from demo.dollhouse.train.warm import warm_up


def test_the_recogniser_comes_back_out_of_its_file(chain, tmp_path):
    there = replace(chain, out=tmp_path / "out", cache=tmp_path / "cache")
    warm_up(there, chain.out)
    crops = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1
    session = onnxruntime.InferenceSession(chain.pack("feed") / "rec.onnx", providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: crops.numpy()})[0]
    found = load_feed(there)(crops).numpy()
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_the_autoencoder_and_the_seeing_models_are_taken_as_they_are(chain, tmp_path):
    there = replace(chain, out=tmp_path / "out", cache=tmp_path / "cache")
    warm_up(there, chain.out)
    ours = load_vae(there, there.cache / "vae_first.safetensors").state_dict()
    for name, value in load_file(chain.checkpoint).items():
        if name.startswith("first_stage_model."):
            assert torch.equal(ours[name.removeprefix("first_stage_model.")], value.float())
    for which in ("feed", "judge"):
        for path in chain.pack(which).iterdir():
            assert path.read_bytes() == (there.pack(which) / path.name).read_bytes()
    assert there.evaluator.read_bytes() == chain.evaluator.read_bytes()
    assert there.card()["recogniser_judge"] == chain.card()["recogniser_judge"]
    assert "renders" not in there.card()["evaluator"]  # to be measured anew
