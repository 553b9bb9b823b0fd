"""CLIP's view of a face: equal to transformers' own, found where users have it, and sentences otherwise."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib_beyondfacial.adapters import clip_vision, registry
from lib_beyondfacial.adapters.clip_vision import (
    ClipShape,
    encode_face,
    list_clip_models,
    load_clip_model,
)
from lib_beyondfacial.adapters.features import CLIP_MODEL
from lib_beyondfacial.errors import BeyondFacialError

transformers = pytest.importorskip("transformers")
TINY = ClipShape(
    hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=7
)


@pytest.fixture(scope="module")
def reference():
    """A whole tiny CLIP vision model of theirs, with its projection, as the published files have."""
    torch.manual_seed(0)
    model = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**asdict(TINY), projection_dim=16)
    ).eval()
    for parameter in model.parameters():  # their start is too small to tell anything by
        torch.nn.init.normal_(parameter, 0, 0.2)
    return model


@pytest.fixture
def face() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (28, 28, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _nothing_is_kept():
    yield
    clip_vision.unload_features()


def put(reference, path, dtype=torch.float32, prefix=""):
    tensors = {prefix + key: tensor.to(dtype).contiguous() for key, tensor in reference.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


def their_features(reference, face) -> torch.Tensor:
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": TINY.image_size}, crop_size={"height": TINY.image_size, "width": TINY.image_size}
    )
    pixels = processor(images=face, return_tensors="pt").pixel_values
    with torch.no_grad():
        return reference(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]


@pytest.mark.parametrize("ending", ["safetensors", "bin", "pth"])
def test_equal_to_their_last_layer_but_one(reference, face, tmp_path, ending):
    path = put(reference, tmp_path / f"clip_h.{ending}")
    expected, found = their_features(reference, face), encode_face(path, face, TINY)
    assert found.shape == (1, 17, 32)
    assert found.dtype is torch.float32
    assert float((found - expected).abs().max()) <= 1e-5
    assert float(expected.std()) > 0.1


def test_half_precision_files_and_files_with_stored_positions(reference, face, tmp_path):
    half = put(reference, tmp_path / "half.safetensors", torch.float16)
    expected = their_features(reference, face)
    assert float((encode_face(half, face, TINY) - expected).abs().max() / expected.abs().max()) <= 1e-2
    tensors = reference.state_dict() | {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    torch.save(tensors | {"text_model.final_layer_norm.weight": torch.ones(4)}, tmp_path / "whole.bin")
    assert torch.equal(encode_face(tmp_path / "whole.bin", face, TINY), encode_face_of(reference, face, tmp_path))


def encode_face_of(reference, face, tmp_path):
    return encode_face(put(reference, tmp_path / "plain.safetensors"), face, TINY)


def test_clip_features_are_cached_and_the_model_is_not(reference, face, tmp_path, monkeypatch):
    path = put(reference, tmp_path / "clip_h.safetensors")
    loads, real = [], clip_vision.load_clip_model
    monkeypatch.setattr(clip_vision, "load_clip_model", lambda *args: loads.append(args) or real(*args))
    first = encode_face(path, face, TINY)
    first += 1  # the caller's own
    again = encode_face(path, face, TINY)
    assert len(loads) == 1
    torch.testing.assert_close(again, first - 1)
    encode_face(path, 255 - face, TINY)
    registry.unload_adapters()
    encode_face(path, face, TINY)
    assert len(loads) == 3


def test_the_published_size_is_clip_vit_h(monkeypatch):
    """On the meta device: every tensor of transformers' own full-size model is asked for, in its shape."""
    config = transformers.CLIPVisionConfig(**asdict(clip_vision.VIT_H), projection_dim=1024)
    with torch.device("meta"):
        whole = transformers.CLIPVisionModelWithProjection(config).state_dict()
    assert sum(tensor.numel() for tensor in whole.values()) in range(632_000_000, 632_200_000)
    monkeypatch.setattr(clip_vision, "read_tensors", lambda *_a: whole)
    model = load_clip_model("CLIP-ViT-H-14.safetensors")
    assert len(model.vision_model.encoder.layers) == 31
    with torch.device("meta"):
        model.vision_model.embeddings.to("meta")
        assert model(torch.zeros(1, 3, 224, 224)).last_hidden_state.shape == (1, 257, 1280)


def test_other_models_are_refused_in_words(reference, face, tmp_path):
    good = reference.state_dict()
    deeper = {key.replace("layers.2", "layers.3"): tensor for key, tensor in good.items() if "layers.2" in key}
    files = {
        "deeper": good | deeper,
        "shallower": {key: tensor for key, tensor in good.items() if "layers.2" not in key},
        "wider": {key: torch.cat([tensor, tensor]) for key, tensor in good.items()},
        "incomplete": {key: tensor for key, tensor in good.items() if not key.endswith("fc1.bias")},
        "text only": {"text_model.x": torch.ones(2)},
        "open_clip": {"visual.conv1.weight": torch.ones(2)},
    }
    for name, tensors in files.items():
        torch.save(tensors, tmp_path / f"{name}.bin")
        with pytest.raises(BeyondFacialError, match=rf'"{name}.bin" is no CLIP.*models/image_encoder') as caught:
            encode_face(tmp_path / f"{name}.bin", face, TINY)
        assert str(tmp_path) not in str(caught.value)
    (tmp_path / "text.bin").write_text("hello")
    with pytest.raises(BeyondFacialError, match='"text.bin" is no .safetensors'):
        encode_face(tmp_path / "text.bin", face, TINY)
    with pytest.raises(BeyondFacialError, match='CLIP vision model "gone.bin" is gone'):
        encode_face(tmp_path / "gone.bin", face, TINY)


def test_a_damaged_file_that_gives_no_numbers(reference, face, tmp_path):
    broken = {key: tensor.clone() for key, tensor in reference.state_dict().items()}
    broken["vision_model.encoder.layers.0.mlp.fc1.bias"][3] = torch.nan
    torch.save(broken, tmp_path / "nan.bin")
    with pytest.raises(BeyondFacialError, match='"nan.bin" gives numbers that are not finite'):
        encode_face(tmp_path / "nan.bin", face, TINY)


def test_only_aligned_faces_of_the_right_size(reference, tmp_path):
    path = put(reference, tmp_path / "clip_h.safetensors")
    for wrong in (np.zeros((28, 27, 3), np.uint8), np.zeros((28, 28, 3), np.float32), np.zeros((28, 28), np.uint8)):
        with pytest.raises(ValueError, match="an aligned face is"):
            encode_face(path, wrong, TINY)


def test_found_where_users_have_it(tmp_path):
    models = tmp_path / "models"
    places = {
        "CLIP-ViT-H-14-laion2B-s32B-b79K": "clip_vision/CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",
        "image_encoder": "ipadapter/image_encoder/model.safetensors",
        "CLIP-ViT-H-14": "ControlNetPreprocessor/clip_vision/CLIP-ViT-H-14.safetensors",
        "clip_g": "clip_vision/clip_g.pth",
    }
    for place in (*places.values(), "ipadapter/ip-adapter-faceid_sd15.bin", "clip_vision/notes.txt"):
        (models / place).parent.mkdir(parents=True, exist_ok=True)
        (models / place).touch()
    beside = tmp_path / "extensions/sd-webui-controlnet/annotator/downloads/clip_vision/clip_h.pth"
    beside.parent.mkdir(parents=True)
    beside.touch()
    listing = list_clip_models([models])
    assert listing == {name: models / place for name, place in places.items()} | {"clip_h": beside}
    assert list(listing)[-1] == "clip_g"  # named like another model, so last
    assert CLIP_MODEL.choose([tmp_path / "absent" / "models", models]) == listing["CLIP-ViT-H-14"]
    with pytest.raises(BeyondFacialError, match=r"none was found; put CLIP-ViT-H .*models/clip_vision"):
        CLIP_MODEL.choose([tmp_path / "absent" / "models"])
