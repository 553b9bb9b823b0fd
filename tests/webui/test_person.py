"""From settings to a person and an adapter, in runs of the miniature host: families, face packs, CLIP, memory."""

from __future__ import annotations

import base64
import gc
import io
import json
import shutil
import weakref
from dataclasses import replace

import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from demo.miniwebui import shared
from lib_beyondfacial.adapters import clip_vision, registry
from lib_beyondfacial.adapters.families import FAMILIES
from lib_beyondfacial.adapters.features import FEATURES, Feature, FeatureModel
from lib_beyondfacial.webui import folders, listings, person
from lib_beyondfacial.webui import run as requests
from tests.adapters.synthetic import random_family, write
from tests.random_adapter import site_widths, write_faceid_adapter
from tests.random_model import CONTEXT_DIM

RUN = {"prompt": "photo of a man", "seed": 7, "steps": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
FILES = {
    "plain": "faceid",
    "faceid-plus": "faceid_plus",
    "faceid-plusv2": "faceid_plus_v2",
    "faceid-portrait": "portrait",
    "instantid": "instantid",
    "unnorm": "portrait_unnorm",
}


@pytest.fixture
def models_folder(host, tmp_path, monkeypatch):
    """A models folder of this test's own, searched before the host's."""
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    yield tmp_path
    registry.unload_adapters()


@pytest.fixture
def families(models_folder):
    """One adapter file of each family, all fitting the miniature host's model."""
    for name, family in FILES.items():
        weights = random_family(family, site_widths(), CONTEXT_DIM, **small(family))
        write(weights, models_folder / "ipadapter" / f"{name}.bin")
    return models_folder


def small(family):
    return {"hidden": 16} if family in ("faceid", "portrait") else {"hidden": 16, "width": 64, "depth": 1}


@pytest.fixture
def ask(host):
    """ask(**unit) -> (status, the unit's part of `info`, or the sentence)."""
    client = TestClient(host.app)

    def post(**unit):
        scripts = {"BeyondFacial": {"args": [unit]}}
        answer = client.post("/sdapi/v1/txt2img", json={**RUN, "alwayson_scripts": scripts})
        result = answer.json()
        if answer.status_code != 200:
            return answer.status_code, result["detail"]
        return 200, json.loads(result["info"])["extra_generation_params"]

    return post


@pytest.mark.parametrize("name", ["plain", "faceid-portrait", "instantid"])
def test_families_run_with_photos(families, ask, photo, other_photo, name):
    status, result = ask(references=[photo, other_photo], adapter=name, face_pack="squares")
    assert status == 200, result
    assert result["BeyondFacial report"][0]["mask_coverage"] >= 0


def test_an_ambiguous_file_asks_and_takes_the_answer(families, ask, photo):
    (families / "ipadapter/unnorm.bin").rename(families / "ipadapter/mystery.bin")
    status, sentence = ask(references=[photo], adapter="mystery")
    assert status == 422
    assert 'set "adapter_family" to "instantid" or "portrait_unnorm"' in sentence
    assert ask(references=[photo], adapter="mystery", adapter_family="portrait_unnorm")[0] == 200
    status, sentence = ask(references=[photo], adapter="plain", adapter_family="instantid")
    assert status == 422
    assert '"adapter_family" is "instantid"' in sentence


def test_plus_asks_for_clip_in_words(families, ask, photo):
    status, sentence = ask(references=[photo], adapter="faceid-plus")
    assert status == 422
    assert "CLIP-ViT-H" in sentence
    assert "models/clip_vision" in sentence


@pytest.fixture
def clip(families, monkeypatch):
    """A CLIP file by name, and a stand-in for its 2.5 GB that notes what it was shown."""
    (families / "clip_vision").mkdir()
    (families / "clip_vision/CLIP-ViT-H-14.safetensors").write_bytes(b"")
    encoded = []

    def encode_face(path, aligned):
        encoded.append((path.name, aligned))
        return torch.randn((1, 257, 1280), generator=torch.Generator().manual_seed(int(aligned.sum()) % 1000))

    monkeypatch.setattr(clip_vision, "encode_face", encode_face)
    return encoded


def test_plus_sees_the_best_photos_face(clip, ask, photo):
    tokens = []
    for weight in (0.0, 1.0):
        assert ask(references=[photo], adapter="faceid-plusv2", clip_weight=weight)[0] == 200
        name, aligned = clip[-1]
        assert name == "CLIP-ViT-H-14.safetensors"
        assert aligned.shape == (224, 224, 3)
        settings = requests.Settings(references=(photo,), adapter="faceid-plusv2", clip_weight=weight)
        (line,) = requests.make_plan(settings, person.load_person(settings, True)).lines
        tokens.append(line.injections[0].tokens)
    assert not torch.equal(*tokens)


def test_a_saved_identity_without_crops_cannot_serve_plus(clip, host, ask, photo):
    client = TestClient(host.app)
    for keep in (False, True):
        body = {"name": f"crops {keep}", "references": [photo], "keep_crops": keep}
        assert client.post("/beyondfacial/v1/identities", json=body).status_code == 200
    status, sentence = ask(identity="crops False", adapter="faceid-plus")
    assert status == 422
    assert '"crops False" holds no face crops' in sentence
    assert ask(identity="crops True", adapter="faceid-plus")[0] == 200


def copy_pack(models_dir, models_folder, name):
    shutil.copytree(models_dir / "insightface/models/squares", models_folder / "insightface/models" / name)


def test_pack_of_another_recogniser_warns_and_is_never_chosen(models_folder, models_dir, ask, photo):
    for name in ("buffalo_l", "antelopev2"):
        copy_pack(models_dir, models_folder, name)
    unit = {"references": [photo], "adapter": "fits", "gender_alignment": "off", "refine_head": False}

    def warned_of_pack(**more):
        """Of these random pictures a warning says besides that they have no face."""
        given = ask(**unit, **more)[1].get("BeyondFacial warnings", [])
        return [warning for warning in given if "no face in picture" not in warning]

    assert not warned_of_pack()
    assert not warned_of_pack(face_pack="squares")
    (warning,) = warned_of_pack(face_pack="antelopev2")
    assert warning.startswith('The adapter was made with the face pack "buffalo_l"; with "antelopev2"')
    shutil.rmtree(models_folder / "insightface/models/buffalo_l")
    settings = requests.Settings(references=(photo,), adapter="fits")
    assert person.load_person(settings, True).analyser.name == "squares"


def test_gender_difference_warns_or_follows_the_photo(models_folder, host, photo):
    """The pack sees a female face, the prompt says man."""

    def ask(prompt=RUN["prompt"], **more):
        unit = {
            "references": [photo],
            "adapter": "fits",
            "start": 0,
            "mask_mode": "whole",
            "refine_head": False,
            **more,
        }
        request = {**RUN, "prompt": prompt, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}}
        answer = TestClient(host.app).post("/sdapi/v1/txt2img", json=request).json()
        result = json.loads(answer["info"])["extra_generation_params"].get("BeyondFacial warnings", [])
        return Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).tobytes(), "".join(result)

    warned, off, followed = (ask(gender_alignment=choice) for choice in ("warn", "off", "follow photo"))
    assert "sees a female face in the photos, the prompt's words say male" in warned[1]
    assert (off[1], followed[1]) == ("", "")
    assert warned[0] == off[0] != followed[0]
    two = [{"references": [photo], "name": "Eve"}, {"references": [photo]}]
    text = ask(references=[], persons=two, prompt="two men")[1]
    assert "in the photos of Eve, the" in text
    assert "in the photos of person 2, the" in text


def test_the_adapters_pack_is_taken(families, models_dir, photo):
    for name in ("buffalo_l", "antelopev2"):
        copy_pack(models_dir, families, name)
    for adapter, pack in (("plain", "buffalo_l"), ("instantid", "antelopev2")):
        settings = requests.Settings(references=(photo,), adapter=adapter)
        assert person.load_person(settings, True).analyser.name == pack
        assert person.pack_of_adapter(settings) == pack
    assert person.pack_of_adapter(requests.Settings(adapter="text")) == ""
    assert person.pack_of_adapter(requests.Settings(adapter="nothing like it")) == ""


def test_models_are_listed_with_what_they_may_be_used_for(families, host):
    (families / "ipadapter/broken.bin").write_bytes(b"x")
    result = TestClient(host.app).get("/beyondfacial/v1/models").json()
    cards = {card["name"]: card for card in result["adapters"]}
    for name, family in FILES.items():
        card = cards[name]
        assert (card["family"], card["problem"]) == (family, "")
        assert ("clip" in card["features"]) is family.startswith("faceid_plus")
        assert card["pack"] == ("antelopev2" if family == "instantid" else "buffalo_l")
        assert all(card[key] for key in ("licence", "where_from", "family_name", "base"))
    assert "broken" in cards["broken"]["problem"]
    assert cards["broken"]["family"] is None
    assert result["face_packs"] == ["squares"]
    assert result["feature_models"] == {"clip": []}


def test_the_page_says_what_an_adapter_is_and_lacks(families, monkeypatch):
    plus = listings.adapter_text("faceid-plus", "auto")
    assert "IP-Adapter FaceID-Plus." in plus
    assert "non-commercial" in plus
    assert "h94/IP-Adapter-FaceID" in plus
    assert "needs a CLIP vision model, and none was found; put CLIP-ViT-H" in plus
    assert "squares" in plus
    assert "made with buffalo_l" in plus
    assert "Choose an adapter: " in listings.adapter_text("", "auto")
    only = {"fits": folders.adapters_by_name()["fits"], "text": folders.adapters_by_name()["text"]}
    monkeypatch.setattr(listings.folders, "adapters_by_name", lambda: only)
    assert "IP-Adapter FaceID." in listings.adapter_text("", "auto")  # the other one is no adapter
    assert "There is no adapter &quot;x&lt;b&gt;&quot;" in listings.adapter_text("x<b>", None)


def test_page_names_the_model_of_a_feature(families, clip, monkeypatch):
    assert "CLIP vision model: CLIP-ViT-H-14." in listings.adapter_text("faceid-plus", "auto")
    eva = FeatureModel("EVA model", lambda folders: {}, "EVA is missing; put it somewhere.")
    monkeypatch.setitem(FEATURES, "eva", Feature(FEATURES["clip"].compute, eva))
    monkeypatch.setitem(FAMILIES, "faceid", replace(FAMILIES["faceid"], features=("arcface", "eva")))
    assert "EVA is missing; put it somewhere." in listings.adapter_text("plain", "auto")


def test_memory_goes_with_the_hosts_model(models_folder, monkeypatch):
    write_faceid_adapter(models_folder / "ipadapter/mine.safetensors")
    registry.get_adapter("mine", {"mine": models_folder / "ipadapter/mine.safetensors"})
    calls = []
    monkeypatch.setattr(requests, "unload", lambda: calls.append(1))
    model = torch.nn.Linear(2, 2)
    for _ in range(3):  # three runs
        requests.unload_with(weakref.ref(model))
    assert not calls
    del model
    gc.collect()
    assert calls == [1]


def test_unload_frees_adapters_and_packs(models_folder, models_dir, ask, photo):
    write_faceid_adapter(models_folder / "ipadapter/mine.safetensors")
    loaded = person.load_person(requests.Settings(references=(photo,), adapter="mine"), True)
    alive = weakref.ref(loaded.adapter), weakref.ref(loaded.analyser)
    del loaded
    gc.collect()
    assert all(each() is not None for each in alive)  # kept for the next run
    requests.unload()
    gc.collect()
    assert all(each() is None for each in alive)
    assert ask(references=[photo], adapter="mine")[0] == 200
