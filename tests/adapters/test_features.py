"""What adapters may ask about a person: each feature, its refusals, and a new one by one entry."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib_beyondfacial.adapters import clip_vision
from lib_beyondfacial.adapters.features import FEATURES, Feature, FeatureModel, compute_features, list_models
from lib_beyondfacial.errors import BeyondFacialError


@pytest.fixture
def record():
    rng = np.random.default_rng(0)
    photos = rng.standard_normal((3, 512)).astype(np.float32)
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    aligned = rng.integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    return SimpleNamespace(name="Ada", embedding=photos[1], norm=21.5, photos=photos, aligned=aligned, features={})


@pytest.fixture
def models(tmp_path):
    """A models folder with a file named like CLIP-ViT-H."""
    (tmp_path / "clip_vision").mkdir()
    (tmp_path / "clip_vision/CLIP-ViT-H-14.safetensors").touch()
    return tmp_path


def test_arcface_features(record):
    found = compute_features(record, ("arcface", "arcface_raw", "arcface_photos"), ())
    assert list(found) == ["arcface", "arcface_raw", "arcface_photos"]
    assert all(each.dtype is torch.float32 for each in found.values())
    np.testing.assert_array_equal(found["arcface"], record.embedding[None])
    np.testing.assert_allclose(found["arcface_raw"], record.embedding[None] * 21.5, rtol=1e-6)
    np.testing.assert_array_equal(found["arcface_photos"], record.photos)


def test_clip_encodes_the_best_photos_face(record, models, monkeypatch):
    calls = []
    monkeypatch.setattr(clip_vision, "encode_face", lambda *args: calls.append(args) or torch.ones(1, 257, 1280))
    assert compute_features(record, ("arcface", "clip"), [models])["clip"].shape == (1, 257, 1280)
    [(path, face)] = calls
    assert path == models / "clip_vision/CLIP-ViT-H-14.safetensors"
    np.testing.assert_array_equal(face, record.aligned[0])


def test_clip_without_crops_or_model_is_refused(record, models, tmp_path):
    with pytest.raises(BeyondFacialError, match=r"needs a CLIP vision model.*models/clip_vision"):
        compute_features(record, ("clip",), [tmp_path / "absent"])
    record.aligned = None
    with pytest.raises(BeyondFacialError, match='"Ada" holds no face crops'):
        compute_features(record, ("clip",), [models])


def test_models_by_feature(models, tmp_path):
    assert list_models([models]) == {"clip": ["CLIP-ViT-H-14"]}
    assert list_models([tmp_path / "absent"]) == {"clip": []}


def test_a_new_feature_is_one_entry(record, models, monkeypatch):
    model = FeatureModel("EVA model", lambda folders: {each.name: each / "eva.pt" for each in folders}, "No EVA.")
    entry = Feature(lambda record, folders: torch.tensor([[len(model.choose(folders).name), record.norm]]), model)
    monkeypatch.setitem(FEATURES, "eva", entry)
    assert compute_features(record, ("eva",), [models])["eva"].tolist() == [[6, 21.5]]
    assert list_models([models])["eva"] == [models.name]
    with pytest.raises(BeyondFacialError, match="No EVA"):
        compute_features(record, ("eva",), [])
