"""Begin with what is shipped instead of with nothing: `python -m demo.dollhouse.train.all --warm`.

For machines on which the whole chain is too long. The UNet and the adapter go on from the shipped ones where these
have the same shape. The autoencoder is taken as it is where it was made for this size; else it becomes the first state
of `vae`'s training, which learns with the shipped recogniser. The seeing models (both recognisers, the detector, the
evaluator) look at crops or at pictures resized to their own input, so they serve at any size: they are taken as they
are, and measured anew with the rest. Where they are to learn on, say what has changed in the world, their own commands
do it: both recognisers then start from the shipped ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
import yaml
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from torch import nn

from demo.dollhouse.train.place import SHIPPED, Place, add_place_options, place_of
from demo.dollhouse.train.recogniser import SEED, Trained

TAKEN = ["feed", "feed_soft", "detector", "genders", "judge", "evaluator"]  # stages that need not be run
OF_VAE, OF_BASE = "first_stage_model.", ("model.diffusion_model.", "cond_stage_model.")


def read_folded(path: Path, net: nn.Module) -> None:
    """A recogniser's weights from its exported graph: batch norms come back as a shift alone."""
    graph = onnx.load(path).graph
    constants = {t.name: torch.from_numpy(np.array(numpy_helper.to_array(t))) for t in graph.initializer}
    layers = [
        [constants[name] for name in node.input if name in constants]
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    ]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.weight.data.fill_((1 + norm.eps) ** 0.5)
    layers_of_net = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    shifts = iter(norms)
    for module, (weight, bias) in zip(layers_of_net, layers, strict=True):
        module.weight.data.copy_(weight)
        (module if module.bias is not None else next(shifts)).bias.data.copy_(bias)


def take_over(place: Place, shipped: Place) -> None:
    """The seeing models into the folder of the new weights, and what the card says of their making."""
    for which in ("feed", "judge"):
        shutil.copytree(shipped.pack(which), place.pack(which), dirs_exist_ok=True)
    shutil.copyfile(shipped.evaluator, place.evaluator)
    names = ("detector", "genders", "vae", "decoder", "recogniser_feed", "recogniser_judge")
    kept = {k: v for k, v in shipped.card().items() if k in names}
    evaluator = shipped.card().get("evaluator", {})
    kept["evaluator"] = {k: v for k, v in evaluator.items() if k in ("parameters", "steps", "batch")}
    text = json.dumps(dict(sorted((place.card() | kept).items())), indent=1) + "\n"
    (place.out / "card.json").write_text(text, encoding="utf-8")


def size_of(checkpoint: Path) -> int:
    """px that a checkpoint was made for, by the yaml beside it."""
    params = yaml.safe_load(checkpoint.with_suffix(".yaml").read_text(encoding="utf-8"))["model"]["params"]
    return int(params["first_stage_config"]["params"]["ddconfig"]["resolution"])


def warm_up(place: Place, shipped: Path = SHIPPED) -> list[str]:
    """Write what training begins with into the cache, take over the rest; returns the stages that need not be run."""
    from_shipped = Place(place.size, shipped, place.cache, place.device)
    take_over(place, from_shipped)
    state = load_file(from_shipped.checkpoint)
    has_shipped_size = size_of(from_shipped.checkpoint) == place.size
    first = {k.removeprefix(OF_VAE): v.clone() for k, v in state.items() if k.startswith(OF_VAE)}
    for name in ("vae", "vae_sharp") if has_shipped_size else ("vae_first",):
        save_file(first, place.cache / f"{name}.safetensors")
    base = {k: v.clone() for k, v in state.items() if k.startswith(OF_BASE)}
    save_file(base, place.cache / "base_first.safetensors")
    shutil.copyfile(from_shipped.clip / "vocab.json", place.cache / "vocab_first.json")
    shutil.copyfile(from_shipped.adapter, place.cache / "adapter_first.safetensors")
    for which, name in (("judge", "judge_first.pt"), ("feed", "feed_trained.pt")):
        torch.manual_seed(SEED[which])
        model = Trained(which)
        read_folded(from_shipped.pack(which) / "rec.onnx", model.net)
        torch.save(model.state_dict(), place.cache / name)
    save_file({k: v.contiguous() for k, v in model.net.state_dict().items()}, place.cache / "feed.safetensors")
    return TAKEN + (["vae", "decoder"] if has_shipped_size else [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_place_options(parser)
    warm_up(place_of(parser.parse_args()))
