"""Adapter files: both containers, every family told apart, and nothing but sentences on bad files."""

from __future__ import annotations

import functools
import io
import os
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lib_beyondfacial.adapters import checkpoints
from lib_beyondfacial.adapters.checkpoints import describe, recognise
from lib_beyondfacial.adapters.files import Weights, load_adapter_file
from lib_beyondfacial.errors import BeyondFacialError

WIDTHS, CONTEXT = (8, 16, 8), 12
SD15_WIDTHS = (320,) * 2 + (640,) * 2 + (1280,) * 5 + (640,) * 3 + (320,) * 3 + (1280,)
SDXL_WIDTHS = (640,) * 4 + (1280,) * 50 + (640,) * 6 + (1280,) * 10


def hollow(*shape: int) -> torch.Tensor:
    """A tensor of a shape without its memory."""
    return torch.zeros((), dtype=torch.float16).expand(shape)


def hollow_faceid(widths, context_dim: int, tokens: int = 4, rank: int = 0) -> Weights:
    """The published layout, all zeros."""
    proj = {"proj.0.weight": hollow(1024, 512), "proj.0.bias": hollow(1024)}
    proj |= {"proj.2.weight": hollow(context_dim * tokens, 1024), "proj.2.bias": hollow(context_dim * tokens)}
    proj |= {"norm.weight": hollow(context_dim), "norm.bias": hollow(context_dim)}
    ip = {}
    for n in range(2 * len(widths)):
        width = widths[n // 2]
        if n % 2:
            ip |= {
                f"{n}.to_k_ip.weight": hollow(width, context_dim),
                f"{n}.to_v_ip.weight": hollow(width, context_dim),
            }
        for leaf in ("to_q", "to_k", "to_v", "to_out") if rank else ():
            width_in = context_dim if n % 2 and leaf in ("to_k", "to_v") else width
            ip[f"{n}.{leaf}_lora.down.weight"] = hollow(rank, width_in)
            ip[f"{n}.{leaf}_lora.up.weight"] = hollow(width, rank)
    return Weights(proj, ip)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_published_layouts_are_described(monkeypatch):
    """Shapes only: the look at 700 million zeros is left out."""
    monkeypatch.setattr(checkpoints, "check_finite", lambda *_a: None)
    sd15 = hollow_faceid(SD15_WIDTHS, 768, rank=128)
    assert len(sd15.ip_adapter) == 288
    spec = describe(sd15)
    assert (spec.family, spec.tokens, spec.context_dim, spec.has_lora) == ("faceid", 4, 768, True)
    assert spec.site_widths == SD15_WIDTHS
    assert len(spec.site_widths) == 16
    sdxl = hollow_faceid(SDXL_WIDTHS, 2048, rank=128)
    assert len(sdxl.ip_adapter) == 1260
    assert describe(sdxl).site_widths == SDXL_WIDTHS
    assert len(SDXL_WIDTHS) == 70
    plain = hollow_faceid(SD15_WIDTHS, 768)
    assert len(plain.ip_adapter) == 32
    assert not describe(plain).has_lora


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("section", ["ip_adapter", "adapter_modules"])
def test_both_containers_give_the_same_tensors(make_adapter, flatten, tmp_path, dtype, section):
    weights = make_adapter(WIDTHS, CONTEXT, lora_rank=2)
    cast = Weights(
        *({key: t.to(dtype) for key, t in part.items()} for part in (weights.image_proj, weights.ip_adapter))
    )
    flat, nested = tmp_path / "a.safetensors", tmp_path / "a.bin"
    save_file(flatten(cast, section), flat)
    torch.save({"image_proj": cast.image_proj, section: cast.ip_adapter}, nested)
    for path in (flat, nested):
        loaded = load_adapter_file(path)
        assert same(loaded.image_proj, cast.image_proj)
        assert same(loaded.ip_adapter, cast.ip_adapter)
        assert not loaded.other
        assert describe(loaded).site_widths == WIDTHS
    misnamed = tmp_path / "b.bin"
    flat.rename(misnamed)
    assert describe(load_adapter_file(misnamed)).has_lora


REFUSED = {
    "clip_plus": Weights({"latents": hollow(1, 16, 768), "proj_in.weight": hollow(768, 1280)}, {}),
    "ip_adapter": Weights(
        {"proj.weight": hollow(3072, 1024), "proj.bias": hollow(3072), "norm.weight": hollow(768)}, {}
    ),
    "pulid": Weights({}, {}, {"id_adapter_attn_layers.0.id_to_k.weight": hollow(4, 4)}),
    "pulid converted": Weights({"id_embedding_mapping.0.weight": hollow(2, 2)}, {}),
    "pulid_flux": Weights({}, {}, {"pulid_ca.0.to_q.weight": hollow(4, 4)}),
    "photomaker": Weights({}, {}, {"id_encoder.x": hollow(2), "lora_weights.y": hollow(2)}),
    "faceid_lora": Weights({}, {}, {"lora_unet_down_blocks_0.lora_down.weight": hollow(2, 2)}),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_other_adapters_are_refused_in_words(layout):
    assert recognise(REFUSED[layout]) == layout.split()[0]
    with pytest.raises(BeyondFacialError, match='"mine" is a .* file; use an IP-Adapter FaceID or InstantID file'):
        describe(REFUSED[layout], "mine")


def test_a_checkpoint_is_no_adapter():
    checkpoint = Weights({}, {}, {"model.diffusion_model.out.2.weight": hollow(4, 4)})
    for weights in (checkpoint, Weights({}, {})):
        with pytest.raises(BeyondFacialError, match="no identity adapter"):
            describe(weights)


BREAKS = {
    "lacks image_proj.proj.2.bias": ("image_proj", "proj.2.bias", None),
    "shape .* in image_proj.proj.0.bias": ("image_proj", "proj.0.bias", hollow(7)),
    "shape .* in image_proj.norm.bias": ("image_proj", "norm.bias", hollow(7)),
    "gaps": ("ip_adapter", "3.to_k_ip.weight", None),
    "lacks ip_adapter.5.to_v_ip": ("ip_adapter", "5.to_v_ip.weight", None),
    "shape .* in ip_adapter.1.to_v_ip": ("ip_adapter", "1.to_v_ip.weight", hollow(8, CONTEXT + 1)),
    "lacks ip_adapter.0.to_q_lora.up": ("ip_adapter", "0.to_q_lora.up.weight", None),
    "shape .* in ip_adapter.4.to_out_lora.down": ("ip_adapter", "4.to_out_lora.down.weight", hollow(2, 3)),
    "int64": ("ip_adapter", "1.to_k_ip.weight", torch.zeros(8, CONTEXT, dtype=torch.int64)),
    "not finite": ("ip_adapter", "1.to_k_ip.weight", torch.full((8, CONTEXT), torch.nan)),
}


@pytest.mark.parametrize("words", BREAKS)
def test_incomplete_files_name_the_key(words):
    section, key, replacement = BREAKS[words]
    weights = hollow_faceid(WIDTHS, CONTEXT, rank=2)
    part = dict(getattr(weights, section))
    part.pop(key)
    if replacement is not None:
        part[key] = replacement
    with pytest.raises(BeyondFacialError, match=f'"mine".*{words}'):
        describe(replace(weights, **{section: part}), "mine")


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch exploded",))


def zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED, extra: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", extra)
    return buffer.getvalue()


def saved(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@functools.cache
def bad_files() -> dict[str, bytes]:
    good = saved({"image_proj": {"a": torch.ones(4)}})
    return {
        "text.safetensors": b"hello, I am a text file named like weights",
        "empty.safetensors": b"",
        "short.safetensors": b"\x10\0\0",
        "huge_header.safetensors": b"\xff" * 8 + b"{}",
        "no_json.safetensors": b"\x08\0\0\0\0\0\0\0" + b"no json!",
        "old_pickle.bin": pickle.dumps({"image_proj": {}}),
        "bomb_pickle.bin": pickle.dumps(Bomb()),
        "bomb_zip.bin": zipped(pickle.dumps(Bomb())),
        "bomb_inside.pt": saved({"image_proj": {"x": Bomb()}}),
        "cut.bin": good[: len(good) // 2],
        "no_torch.bin": zipped(b"", extra=b"x"),
        "compressed.bin": zipped(pickle.dumps({}), zipfile.ZIP_DEFLATED, b"\0" * 50_000_000),
        "list.bin": saved([torch.ones(2)]),
        "number.bin": saved(3),
        "expanded.bin": saved({"image_proj": {"x": torch.zeros(1).expand(10**12)}}),
        "alias.bin": saved({str(i): expanded for expanded in [torch.ones(1000)] for i in range(1000)}),
        "meta.bin": saved({"image_proj": {"x": torch.zeros(10**9, device="meta")}}),
        "sparse.bin": saved({"image_proj": {"x": torch.eye(3).to_sparse()}}),
        "deep.bin": saved({"a": {"b": {"c": {"d": {"e": {"f": {"g": torch.ones(1)}}}}}}}),
    }


@pytest.mark.parametrize("name", list(bad_files()))
def test_bad_files_give_a_sentence_and_run_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(bad_files()[name])
    with pytest.raises(BeyondFacialError) as caught:
        load_adapter_file(tmp_path / name)
    assert f'"{name}"' in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(BeyondFacialError, match='"gone.bin" is gone'):
        load_adapter_file(tmp_path / "gone.bin")
    with pytest.raises(BeyondFacialError, match="no .safetensors"):
        load_adapter_file(tmp_path)


def test_nothing_of_torchs_loader_is_asked(tmp_path, monkeypatch):
    """A1111 puts its own in the place of torch.load; and the weights-only one builds what a pickle asks for."""
    torch.save({"image_proj": {"x": torch.ones(2)}}, tmp_path / "a.bin")
    monkeypatch.setattr(torch, "load", lambda *_a, **_k: pytest.fail("was asked"))
    assert load_adapter_file(tmp_path / "a.bin").image_proj["x"].tolist() == [1, 1]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=12), st.lists(st.integers(0, 3), max_size=3), max_size=5), st.data())
def test_any_keys_and_shapes_give_a_sentence(shapes, data):
    known = st.sampled_from(
        ["proj.0.weight", "proj.2.weight", "norm.weight", "latents", "1.to_k_ip.weight", "²3.to_k_ip.weight"]
    )
    tensors = {data.draw(st.one_of(st.just(key), known)): torch.zeros(shape) for key, shape in shapes.items()}
    for weights in (Weights(tensors, tensors), Weights({}, tensors, tensors)):
        with pytest.raises(BeyondFacialError):
            describe(weights)
