"""Saved identities: written and read back, by any pack, under names that cannot lead out of their folder."""

from __future__ import annotations

import os
import time
import unicodedata

import numpy as np
import pytest

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import aggregate_photos, plain_files
from lib_beyondfacial.faces.analysis import FaceAnalyser
from lib_beyondfacial.faces.library import UnknownIdentityError
from lib_beyondfacial.faces.photos import Photo

PER_PHOTO = ("photos", "norms", "weights")


@pytest.fixture(scope="module")
def other_analyser(make_pack, tmp_path_factory) -> FaceAnalyser:
    """The same faces, another embedding space: a recogniser with other numbers."""
    import onnx
    from onnx import numpy_helper

    pack = make_pack(tmp_path_factory.mktemp("models") / "others", side=256)
    model = onnx.load(str(pack / "rec.onnx"))
    matrix = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.roll(matrix, 7, axis=1), "matrix"))
    onnx.save(model, str(pack / "rec.onnx"))
    return FaceAnalyser(pack)


def test_saved_and_loaded(library, identity, analyser):
    assert library.names() == library.entries() == []
    assert library.by_hash(identity.photo_hash) is None
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    library.save("Änne", identity)
    loaded = library.load("Änne", analyser)
    for key in ("embedding", *PER_PHOTO):
        np.testing.assert_array_equal(getattr(loaded, key), getattr(identity, key))
        assert getattr(loaded, key).dtype == np.float32
    assert (loaded.norm, loaded.photo_hash, loaded.space) == (identity.norm, identity.photo_hash, analyser.space)
    assert (loaded.name, loaded.gender, loaded.warnings) == ("Änne", identity.gender, ())
    assert loaded.names == ("photo 1", "photo 2", "photo 3")
    assert loaded.aligned is None
    assert loaded.crop.shape == identity.crop.shape == (256, 256, 3)
    assert np.abs(loaded.crop.astype(int) - identity.crop).mean() < 8
    (entry,) = library.entries()
    assert (entry.name, entry.photo_hash, entry.packs) == ("Änne", identity.photo_hash, ("squares256",))
    assert (entry.photos, entry.has_crops, entry.sentence) == (3, False, "")
    assert began <= entry.created <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert (entry.thumbnail.shape, entry.thumbnail.dtype) == ((128, 128, 3), np.uint8)
    assert library.entry("Änne").photo_hash == identity.photo_hash
    with pytest.raises(UnknownIdentityError, match='no saved identity "Anne"'):
        library.entry("Anne")
    assert library.by_hash(identity.photo_hash) == "Änne"
    assert library.by_hash("0" * 10) is None
    assert library.by_hash("") is None


def test_the_file_holds_neither_photos_nor_names(library, identity):
    library.save("Anna", identity)
    (file,) = library.folder.iterdir()
    data = file.read_bytes()
    assert file.name == "Anna.safetensors"
    assert b"secret" not in data
    assert b"Anna" not in data
    assert len(data) < 80_000  # without crops: a thumbnail and the numbers
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0


def test_kept_crops_serve_another_pack(library, identity, analyser, other_analyser, draw_faces):
    library.save("with", identity, keep_crops=True)
    library.save("without", identity)
    assert [entry.has_crops for entry in library.entries()] == [True, False]
    loaded = library.load("with", other_analyser)
    direct = aggregate_photos([Photo(f"{i}", draw_faces(1, noise=i)) for i in (1, 2, 3)], other_analyser)
    assert loaded.space == other_analyser.space != analyser.space
    assert loaded.embedding @ direct.embedding > 0.9999
    np.testing.assert_allclose(loaded.photos, direct.photos, atol=2e-3)
    np.testing.assert_allclose(loaded.norms, direct.norms, rtol=2e-3)
    assert loaded.norm == pytest.approx(direct.norm, rel=2e-3)
    assert loaded.embedding @ identity.embedding < 0.5  # not the first pack's numbers
    np.testing.assert_array_equal(loaded.aligned, identity.aligned)
    with pytest.raises(BeyondFacialError, match='"without" was saved with the face pack "squares256" and .*"others"'):
        library.load("without", other_analyser)


def test_the_same_recogniser_in_another_folder_is_the_same_space(library, identity, make_pack, tmp_path):
    renamed = FaceAnalyser(make_pack(tmp_path / "renamed", side=256))
    library.save("Anna", identity)
    np.testing.assert_array_equal(library.load("Anna", renamed).embedding, identity.embedding)


def test_a_second_pack_of_the_same_photos_joins_the_first(library, identity, other_analyser, analyser, draw_faces):
    made = [Photo(f"{i}", draw_faces(1, noise=i)) for i in (1, 2, 3)]
    reference = aggregate_photos(made, other_analyser)
    library.save("Anna", identity)
    library.save("Anna", reference, overwrite=True)
    assert library.entries()[0].packs == ("others", "squares256")
    for each, pack in ((identity, analyser), (reference, other_analyser)):
        np.testing.assert_array_equal(library.load("Anna", pack).embedding, each.embedding)
    library.save("Anna", aggregate_photos(made[:2], analyser), overwrite=True)  # other photos: nothing old remains
    assert library.entries()[0].packs == ("squares256",)
    assert library.entries()[0].photos == 2


def test_nothing_is_overwritten_unasked(library, identity, analyser):
    library.save("Anna", identity)
    for name in ("Anna", "anna", "ANNA"):
        with pytest.raises(BeyondFacialError, match='already a saved identity "Anna"'):
            library.save(name, identity)
    with pytest.raises(BeyondFacialError, match='already a saved identity "Anna"; choose another name\\.'):
        library.save("anna", identity, overwrite=True)  # on some systems that would be the same file
    library.save("Anna", identity, overwrite=True, keep_crops=True)
    assert library.names() == ["Anna"]
    assert library.load("Anna", analyser).aligned is not None


def test_renamed(library, identity, analyser):
    library.save("Anna", identity)
    library.save("Bert", identity)
    library.rename("Anna", "Zoë")
    assert library.names() == ["Bert", "Zoë"]
    assert library.load("Zoë", analyser).name == "Zoë"
    library.rename("Zoë", "zoë")
    assert library.names() == ["Bert", "zoë"]
    with pytest.raises(BeyondFacialError, match='already a saved identity "Bert"'):
        library.rename("zoë", "bert")
    with pytest.raises(BeyondFacialError, match="holds one of"):
        library.rename("zoë", "../zoë")
    with pytest.raises(UnknownIdentityError, match='no saved identity "Anna"'):
        library.rename("Anna", "x")
    assert library.names() == ["Bert", "zoë"]


def test_deleted_is_gone(library, identity, analyser):
    library.save("Anna", identity, keep_crops=True)
    stale, fresh = library.folder / ".saving-old", library.folder / ".saving-new"
    for path in (stale, fresh):
        path.write_bytes(b"half an identity")
    os.utime(stale, (time.time() - 7200,) * 2)
    library.delete("Anna")
    assert [path.name for path in library.folder.iterdir()] == [".saving-new"]  # another save may be under way
    assert library.names() == []
    for action in (library.delete, lambda name: library.load(name, analyser)):
        with pytest.raises(UnknownIdentityError, match='no saved identity "Anna"'):
            action("Anna")


def test_paths_as_names_reach_nothing(library, identity, analyser, tmp_path):
    library.save("Anna", identity)
    outside = tmp_path / "models" / "outside.safetensors"
    outside.write_bytes((library.folder / "Anna.safetensors").read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in (
        "../outside",
        "..\\outside",
        str(outside.with_suffix("")),
        "sub/../Anna",
        "./Anna",
        "Anna/",
        "Anna\0",
    ):
        for action in (
            lambda name: library.load(name, analyser),
            library.delete,
            lambda name: library.rename(name, "new"),
            lambda name: library.rename("Anna", name),
            lambda name: library.save(name, identity, overwrite=True),
        ):
            with pytest.raises(BeyondFacialError, match="cannot be the name of an identity"):
                action(name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
def test_links_and_pipes_are_not_followed(library, identity, analyser, tmp_path):
    library.save("Anna", identity)
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes((library.folder / "Anna.safetensors").read_bytes())
    (library.folder / "link.safetensors").symlink_to(secret)
    (library.folder / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (library.folder / "folder.safetensors").mkdir()
    os.mkfifo(library.folder / "pipe.safetensors")
    for name in ("link", "gone", "folder", "pipe"):
        for action in (
            lambda name: library.load(name, analyser),
            library.delete,
            lambda name: library.rename(name, "new"),
        ):
            with pytest.raises(BeyondFacialError, match=f'"{name}" is a link or no file'):
                action(name)
    with pytest.raises(BeyondFacialError, match="already"):
        library.save("link", identity)
    library.save("link", identity, overwrite=True)  # takes the link's place; what it points to stays
    assert not (library.folder / "link.safetensors").is_symlink()
    assert secret.exists()
    entries = {entry.name: entry for entry in library.entries()}
    assert entries["Anna"].sentence == entries["link"].sentence == ""
    assert all("link or no file" in entries[name].sentence for name in ("gone", "folder", "pipe"))


def test_a_damaged_file_is_listed_and_breaks_nothing(library, identity, analyser):
    library.save("Anna", identity)
    good = (library.folder / "Anna.safetensors").read_bytes()
    for name, data in {"cut": good[:5000], "empty": b"", "noise": b"\xff" * 5000, "huge": bytes(5_000_000)}.items():
        (library.folder / f"{name}.safetensors").write_bytes(data)
    (library.folder / "notes.txt").write_text("not ours", encoding="utf-8")
    entries = {entry.name: entry for entry in library.entries()}
    assert set(entries) == {"Anna", "cut", "empty", "noise", "huge"}
    assert entries["Anna"].photos == 3
    for name in ("cut", "empty", "noise", "huge"):
        assert f'saved identity "{name}" is' in entries[name].sentence
        assert entries[name].thumbnail is None
        with pytest.raises(BeyondFacialError, match=f'"{name}"'):
            library.load(name, analyser)
    assert library.by_hash(identity.photo_hash) == "Anna"
    library.save("cut", identity, overwrite=True)
    library.delete("noise")
    assert {entry.name for entry in library.entries() if not entry.sentence} == {"Anna", "cut"}


def test_a_save_that_fails_leaves_the_old_one(library, identity, analyser, monkeypatch):
    library.save("Anna", identity)

    def full(*_):
        raise OSError(28, "No space left on device", str(library.folder))

    monkeypatch.setattr(plain_files.os, "fsync", full)
    for name in ("Anna", "Bert"):
        with pytest.raises(
            BeyondFacialError, match=f'"{name}" cannot be saved \\(No space left on device\\)'
        ) as caught:
            library.save(name, identity, overwrite=True)
        assert str(library.folder) not in str(caught.value)
    assert [path.name for path in library.folder.iterdir()] == ["Anna.safetensors"]
    assert library.load("Anna", analyser).photo_hash == identity.photo_hash


def test_names_that_the_system_spells_in_its_own_way(library, identity, analyser):
    library.save("Änne", identity)
    spelt = f"{unicodedata.normalize('NFD', 'Änne')}.safetensors"
    (library.folder / "Änne.safetensors").rename(library.folder / spelt)
    assert library.names() == ["Änne"]
    assert library.load(unicodedata.normalize("NFD", "Änne"), analyser).name == "Änne"
    library.save("Änne", identity, overwrite=True)
    library.delete("Änne")
    assert list(library.folder.iterdir()) == []
