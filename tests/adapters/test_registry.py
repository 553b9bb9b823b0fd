"""Adapters by name: where they are found, how they are chosen, kept and never addressed by a path."""

from __future__ import annotations

import hashlib
import os

import pytest
import torch
from safetensors.torch import save_file

from lib_beyondfacial.adapters import registry
from lib_beyondfacial.adapters.registry import adapter_dirs, get_adapter, list_adapters, peek_adapter
from lib_beyondfacial.errors import BeyondFacialError

WIDTHS, CONTEXT = (8, 16, 8), 12


@pytest.fixture
def put(tmp_path, make_adapter, flatten):
    """put("folder/name.safetensors", seed=0) writes an adapter into a models folder and returns its path."""

    def write(place: str, seed: int = 0):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(flatten(make_adapter(WIDTHS, CONTEXT, seed=seed)), path)
        return path

    return write


def test_files_are_found_where_users_keep_them(put, tmp_path):
    adapter_file = put("ipadapter/mine.safetensors")
    deep = put("ipadapter/sd15/faces/deep.bin")
    put("ipadapter/a/b/c/too_deep.safetensors")
    mixed = put("ControlNet/ip-adapter-faceid_sd15.bin")
    put("ControlNet/control_v11p_sd15_openpose.safetensors")
    put("Stable-diffusion/model.safetensors")
    (tmp_path / "ipadapter" / "notes.txt").write_text("hello", encoding="utf-8")
    dirs = adapter_dirs(tmp_path)
    assert {folder.name for folder in dirs} == {"ipadapter", "ControlNet"}
    listing = list_adapters(dirs)
    assert listing == {"deep": deep, "ip-adapter-faceid_sd15": mixed, "mine": adapter_file}
    assert list_adapters([tmp_path / "absent"]) == {}
    assert adapter_dirs(tmp_path / "absent") == []


def test_what_lies_beside_adapters_is_not_listed(put, tmp_path):
    adapter_file = put("instantid/ip-adapter.bin")
    for place in (
        "instantid/ControlNetModel/diffusion_pytorch_model.safetensors",
        "ipadapter/image_encoder/model.safetensors",
        "ipadapter/CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",
        "ControlNet/clip_vision/clip_h.pt",
    ):
        put(place)
    assert list_adapters(adapter_dirs(tmp_path)) == {"ip-adapter": adapter_file}


def test_an_empty_name_means_the_only_one_that_can_be_used(put, tmp_path):
    put("ipadapter/mine.safetensors")
    lora = {"lora_unet_down_blocks_0_attn1_to_q.lora_down.weight": torch.ones(2, 2)}
    save_file(lora, tmp_path / "ipadapter" / "mine_lora.safetensors")
    (tmp_path / "ipadapter" / "broken.bin").write_text("hello", encoding="utf-8")
    listing = list_adapters(adapter_dirs(tmp_path))
    assert list(listing) == ["broken", "mine", "mine_lora"]
    assert get_adapter("", listing).name == "mine"
    assert peek_adapter("mine_lora", listing).sentence.startswith('"mine_lora" is a FaceID LoRA file')
    with pytest.raises(BeyondFacialError, match="is a FaceID LoRA file"):
        get_adapter("mine_lora", listing)
    put("ipadapter/other.safetensors")
    with pytest.raises(BeyondFacialError, match='set "adapter" to one of "mine", "other".'):
        get_adapter("", list_adapters(adapter_dirs(tmp_path)))


def test_a_peek_follows_the_file(put, tmp_path):
    path = put("ipadapter/mine.safetensors")
    listing = list_adapters(adapter_dirs(tmp_path))
    assert peek_adapter("mine", listing).spec.family == "faceid"
    path.write_text("hello", encoding="utf-8")
    assert "damaged" in peek_adapter("mine", listing).sentence
    path.unlink()
    assert "gone" in peek_adapter("mine", listing).sentence
    with pytest.raises(BeyondFacialError, match="There is no adapter"):
        peek_adapter("none", listing)


def test_equal_names_get_their_ending_and_the_first_folder_wins(put, tmp_path):
    first, other = put("ipadapter/same.bin"), put("ipadapter/same.safetensors")
    put("instantid/same.bin")
    assert list_adapters(adapter_dirs(tmp_path)) == {"same": first, "same.safetensors": other}


def test_loading_by_name(put, tmp_path):
    path = put("ipadapter/mine.safetensors")
    listing = list_adapters(adapter_dirs(tmp_path))
    adapter = get_adapter("mine", listing)
    assert (adapter.name, adapter.path, adapter.spec.site_widths) == ("mine", path, WIDTHS)
    assert adapter.short_hash == hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    assert get_adapter("", listing) is adapter
    assert get_adapter("mine.safetensors", listing) is adapter
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    assert get_adapter("mine", listing) is not adapter
    registry.unload_adapters()


def test_choices_that_cannot_be_made(put, tmp_path):
    with pytest.raises(BeyondFacialError, match="models/ipadapter"):
        get_adapter("", {})
    path = put("ipadapter/faceid-one.safetensors")
    put("ipadapter/portrait-two.safetensors")
    listing = list_adapters(adapter_dirs(tmp_path))
    with pytest.raises(BeyondFacialError, match='set "adapter" to one of "faceid-one", "portrait-two"'):
        get_adapter("", listing)
    with pytest.raises(BeyondFacialError, match='nearest is "portrait-two".*"faceid-one"'):
        get_adapter("portait", listing)
    for name in (str(path), "../ipadapter/faceid-one", "ipadapter/faceid-one.safetensors", "faceid-one\0"):
        with pytest.raises(BeyondFacialError, match="There is no adapter"):
            get_adapter(name, listing)
    path.unlink()
    with pytest.raises(BeyondFacialError, match='"faceid-one" is gone'):
        get_adapter("faceid-one", listing)


def test_a_bad_file_is_named_and_not_kept(put, tmp_path):
    path = put("ipadapter/mine.safetensors")
    good = path.read_bytes()
    path.write_text("not weights", encoding="utf-8")
    listing = list_adapters(adapter_dirs(tmp_path))
    with pytest.raises(BeyondFacialError, match='"mine.safetensors" is no'):
        get_adapter("mine", listing)
    path.write_bytes(good)
    assert get_adapter("mine", listing).spec.tokens == 4
