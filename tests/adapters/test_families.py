"""Families told apart: by shapes, the user's word, hash, name, else the user is asked; and what each asks for."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest
import torch

from lib_beyondfacial.adapters import registry
from lib_beyondfacial.adapters.checkpoints import describe, recognise
from lib_beyondfacial.adapters.families import FAMILIES
from lib_beyondfacial.adapters.features import FEATURES
from lib_beyondfacial.adapters.files import Weights, load_adapter_file, peek_adapter_file
from lib_beyondfacial.adapters.projections import project_identity
from lib_beyondfacial.adapters.registry import adapter_dirs, get_adapter, list_adapters, peek_adapter
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.settings import BY_KEY
from tests.adapters.synthetic import face_features, flat_keys, random_family, write

WIDTHS, CONTEXT = (8, 16, 8), 64
PAIRS = {"faceid_plus": "faceid_plus_v2", "instantid": "portrait_unnorm"}
USUAL_NAMES = {  # as published, and as ControlNet's and Forge's users have them
    "ip-adapter-faceid-plus_sd15": "faceid_plus",
    "ip-adapter-faceid-plusv2_sd15": "faceid_plus_v2",
    "ip-adapter-faceid-plus-v2_sd15": "faceid_plus_v2",
    "FaceID Plus V2 (mine)": "faceid_plus_v2",
    "ip-adapter_instant_id_sdxl": "instantid",
    "InstantID": "instantid",
    "ip-adapter-faceid-portrait_sdxl_unnorm": "portrait_unnorm",
}


def small(family: str, **changes) -> Weights:
    return random_family(family, WIDTHS, CONTEXT, **({"hidden": 16, "width": 64, "depth": 2} | changes))


@pytest.fixture(autouse=True)
def _nothing_is_kept():
    yield
    registry.unload_adapters()


@pytest.fixture
def get(tmp_path):
    """get("folder/name.bin", weights, family="auto") writes the file into a models folder and loads it by name."""

    def load(place: str, weights: Weights, family: str = "auto"):
        path = write(weights, tmp_path / place)
        listing = list_adapters(adapter_dirs(tmp_path))
        name = next(name for name, each in listing.items() if each == path)
        card = peek_adapter(name, listing, family)
        if card.spec is None:  # a list says what loading says
            with pytest.raises(BeyondFacialError, match=re.escape(card.sentence)):
                get_adapter(name, listing, family)
            raise BeyondFacialError(card.sentence)
        adapter = get_adapter(name, listing, family)
        assert (card.spec, card.sentence) == (adapter.spec, "")
        return adapter

    return load


@pytest.mark.parametrize("family", ["faceid", "portrait"])
def test_by_shapes_alone(get, family):
    spec = get("ipadapter/x.bin", small(family)).spec
    assert (spec.family, spec.tokens, spec.context_dim) == (family, {"faceid": 4, "portrait": 16}[family], CONTEXT)


@pytest.mark.parametrize("ending", ["bin", "safetensors"])
@pytest.mark.parametrize("name", USUAL_NAMES)
def test_by_the_files_name(get, name, ending):
    family = USUAL_NAMES[name]
    assert get(f"ipadapter/{name}.{ending}", small(family)).spec.family == family


def test_by_the_folders_name_where_the_file_says_nothing(get):
    """As InstantID is published: models/instantid/ip-adapter.bin."""
    assert get("instantid/ip-adapter.bin", small("instantid")).spec.family == "instantid"
    assert get("instantid/x_sdxl_unnorm.bin", small("instantid")).spec.family == "portrait_unnorm"


def test_sdxl_has_no_plus_of_version_1():
    weights = random_family("faceid_plus", (8,), 2048, hidden=4, depth=1)
    assert describe(weights, "ip-adapter-faceid-plus_sdxl").family == "faceid_plus_v2"
    assert describe(weights, family="faceid_plus").family == "faceid_plus"  # unless the user made one


@pytest.mark.parametrize("family", [*PAIRS, *PAIRS.values()])
def test_by_hash_before_the_name(get, monkeypatch, tmp_path, family):
    other = (PAIRS | {v: k for k, v in PAIRS.items()})[family]
    misnamed = next(name for name, each in USUAL_NAMES.items() if each == other)
    path = write(small(family), tmp_path / "once.bin")
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(FAMILIES, family, replace(FAMILIES[family], sha256=(known,)))
    place = tmp_path / "ipadapter" / f"{misnamed}.bin"
    place.parent.mkdir()
    path.rename(place)
    listing = list_adapters(adapter_dirs(tmp_path))
    assert get_adapter(misnamed, listing).spec.family == family
    assert peek_adapter(misnamed, listing).spec.family == family


def test_published_hashes():
    known = [digest for family in FAMILIES.values() for digest in family.sha256]
    assert len(known) == len(set(known)) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in known)


@pytest.mark.parametrize("family", PAIRS)
def test_the_user_is_asked_where_nothing_tells(get, family):
    other = PAIRS[family]
    with pytest.raises(BeyondFacialError) as caught:
        get("ipadapter/mine.bin", small(family))
    expected = str(caught.value)
    assert f'set "adapter_family" to "{family}" or "{other}"' in expected
    assert FAMILIES[family].name in expected
    assert FAMILIES[other].name in expected
    assert ("fp32" in expected) == (family == "instantid")
    for choice in (family, other):
        assert get("ipadapter/mine.bin", small(family), choice).spec.family == choice


def test_users_family_overrides_the_name_but_not_the_shapes(get):
    assert get("ipadapter/faceid-plusv2.bin", small("faceid_plus"), "faceid_plus").spec.family == "faceid_plus"
    with pytest.raises(BeyondFacialError, match='"adapter_family" is "instantid", but "x" has the shapes of IP-Ad'):
        get("ipadapter/x.bin", small("faceid"), "instantid")
    with pytest.raises(BeyondFacialError, match="shapes of InstantID or IP-Adapter FaceID-Portrait-unnorm"):
        get("ipadapter/y.bin", small("instantid"), "faceid_plus")


def test_the_users_word_chooses_among_files_when_no_name_is_given(get, tmp_path):
    get("ipadapter/x.bin", small("faceid"))
    get("ipadapter/y.bin", small("instantid"), "instantid")
    listing = list_adapters(adapter_dirs(tmp_path))
    assert get_adapter("", listing).name == "x"  # y cannot be used before it is said what it is
    assert get_adapter("", listing, "portrait_unnorm").name == "y"


def test_what_users_can_say_is_what_shapes_leave_open():
    assert set(BY_KEY["adapter_family"].choices) == {"auto", *PAIRS, *PAIRS.values()}
    assert set(BY_KEY["adapter_family"].choices) - {"auto"} < set(FAMILIES)


def test_one_file_under_two_families_is_in_memory_once(get):
    one = get("ipadapter/mine.bin", small("instantid"), "instantid")
    other = get_adapter("mine", {"mine": one.path}, "portrait_unnorm")
    assert (one.spec.pack, other.spec.pack) == ("antelopev2", "buffalo_l")
    assert one.weights is other.weights


def test_bare_keys_are_put_into_their_sections(tmp_path):
    """InstantID without section names: the projection with the sites, or the projection alone, which is not enough."""
    weights = small("instantid")
    bare = Weights({}, {}, weights.image_proj | weights.ip_adapter)
    loaded = load_adapter_file(write(bare, tmp_path / "bare.bin"))
    assert loaded.image_proj.keys() == weights.image_proj.keys()
    assert loaded.ip_adapter.keys() == weights.ip_adapter.keys()
    assert describe(loaded, family="instantid").site_widths == WIDTHS
    torch.save(weights.image_proj, tmp_path / "half.bin")
    with pytest.raises(BeyondFacialError, match="attention sites"):
        describe(load_adapter_file(tmp_path / "half.bin"), family="instantid")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_peek_sees_the_same_without_reading_numbers(tmp_path, family):
    weights = small(family, lora_rank=2)
    for ending in ("bin", "safetensors"):
        path = write(weights, tmp_path / f"x.{ending}")
        peeked, loaded = peek_adapter_file(path), load_adapter_file(path)
        assert all(tensor.is_meta for tensor in peeked.image_proj.values())
        assert recognise(peeked) == recognise(loaded)
        ask = "auto" if family in ("faceid", "portrait") else family
        assert describe(peeked, family=ask) == describe(loaded, family=ask)


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_that_users_are_told(family):
    facts = FAMILIES[family]
    assert facts.key == family
    assert facts.pack == ("antelopev2" if family == "instantid" else "buffalo_l")
    assert re.fullmatch(r"[A-Z].*research.*\.", facts.licence)
    assert re.fullmatch(r'From "(h94/IP-Adapter-FaceID|InstantX/InstantID)" on Hugging Face: .*\.', facts.where_from)
    assert facts.hint.endswith(".")


def person(norm: float = 20.0) -> dict[str, torch.Tensor]:
    unit = torch.nn.functional.normalize(torch.randn(6, 512, generator=torch.Generator().manual_seed(1)), dim=1)
    clip = torch.randn(1, 257, 1280, generator=torch.Generator().manual_seed(2))
    return face_features(unit[:1], norm, unit, clip)


class Noted(dict):
    """Features, and which of them were asked for."""

    def __init__(self, features):
        super().__init__(features)
        self.asked = set()

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)


ASKED = {
    "faceid": ("arcface",),
    "faceid_plus": ("arcface", "clip"),
    "faceid_plus_v2": ("arcface", "clip"),
    "portrait": ("arcface_photos",),
    "portrait_unnorm": ("arcface_raw",),
    "instantid": ("arcface_raw",),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_reads_the_features_it_names(family):
    weights, noted = small(family), Noted(person())
    spec = describe(weights, family="auto" if family in ("faceid", "portrait") else family)
    project_identity(spec, weights, noted)
    assert noted.asked == set(spec.features) == set(ASKED[family]) <= set(FEATURES)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_raw_families_see_the_length_of_the_embedding(family):
    weights = small(family)
    spec = describe(weights, family="auto" if family in ("faceid", "portrait") else family)
    short, long = (project_identity(spec, weights, person(norm)) for norm in (15.0, 25.0))
    assert torch.equal(short, long) == ("arcface_raw" not in spec.features)
    assert torch.equal(long, project_identity(spec, weights, person(25.0), 0.3)) == (family != "faceid_plus_v2")


def test_portrait_takes_the_five_best_photos():
    weights = small("portrait")
    spec, face = describe(weights), person()
    tokens = project_identity(spec, weights, face)
    assert tokens.shape == (1, 5 * spec.tokens, CONTEXT)
    each = torch.cat(
        [project_identity(spec, weights, {"arcface_photos": photo[None]}) for photo in face["arcface_photos"]]
    )
    distance = (tokens.unflatten(1, (5, -1))[0][:, None] - each[None]).abs().amax((-1, -2))
    # Five rows at once round otherwise than one, by some 1e-6; another photo's tokens are 2.7 and more away.
    assert (distance < 1e-3).tolist() == torch.eye(5, 6, dtype=torch.bool).tolist()


def test_numbers_that_run_over_are_not_handed_on():
    weights = small("faceid")
    weights.image_proj["proj.2.weight"][:] = 3e38
    with pytest.raises(BeyondFacialError, match="not finite"):
        project_identity(describe(weights), weights, person())


BREAKS = {  # family, key, what takes its place, what is said
    "no bias": ("instantid", "proj_in.bias", None, "lacks image_proj.proj_in.bias"),
    "latents": ("instantid", "latents", torch.zeros(2, 16, 64), r"shape \(2, 16, 64\) in image_proj.latents"),
    "kv": ("instantid", "layers.1.0.to_kv.weight", torch.zeros(64, 64), "to_kv.weight, not .128, 64."),
    "gap": ("instantid", "layers.0.1.1.weight", None, "lacks image_proj.layers.0.1.1.weight"),
    "far layer": ("instantid", "layers.7.0.to_q.weight", torch.zeros(64, 64), "gaps"),
    "heads": ("instantid", "layers.0.0.to_q.weight", torch.zeros(65, 64), "attention of width 65"),
    "other clip": ("faceid_plus", "perceiver_resampler.proj_in.weight", torch.zeros(64, 1664), "1664.*not .64, 1280."),
    "no norm": ("faceid_plus", "norm.bias", None, "lacks image_proj.norm.bias"),
    "int": ("faceid_plus", "perceiver_resampler.layers.0.1.3.weight", torch.zeros(64, 256).int(), "int32"),
    "nan": ("faceid_plus", "perceiver_resampler.norm_out.bias", torch.full((64,), torch.nan), "not finite"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_incomplete_files_name_the_key(case):
    family, key, instead, expected = BREAKS[case]
    weights = small(family)
    proj = {k: v for k, v in weights.image_proj.items() if k != key} | ({} if instead is None else {key: instead})
    with pytest.raises(BeyondFacialError, match=f'"mine".*{expected}'):
        describe(replace(weights, image_proj=proj), "mine", family)


def test_the_same_tensors_from_both_containers(tmp_path):
    weights = small("faceid_plus_v2", lora_rank=2)
    one, other = (load_adapter_file(write(weights, tmp_path / f"x.{ending}")) for ending in ("bin", "safetensors"))
    flat = flat_keys(weights)
    for loaded in (one, other):
        found = flat_keys(loaded)
        assert found.keys() == flat.keys()
        assert all(torch.equal(found[key], flat[key]) for key in flat)
