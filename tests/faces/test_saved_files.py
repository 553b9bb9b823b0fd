"""Saved identities among other people, systems and processes: renamed, deleted, killed, listed, overwritten."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import plain_files
from lib_beyondfacial.faces.library import Library, UnknownIdentityError


def names_in(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def is_case_sensitive(folder) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "probe").touch()
    found = not (folder / "PROBE").exists()
    (folder / "probe").unlink()
    return found


def test_another_persons_file_is_never_renamed_over(library, identity):
    """Two names that differ in case alone may both be there, copied by hand."""
    if not is_case_sensitive(library.folder):
        pytest.skip("this file system takes both names for one")
    library.save("Anna", identity)
    other = b"another person"
    (library.folder / "anna.safetensors").write_bytes(other)
    with pytest.raises(BeyondFacialError, match='already a saved identity "anna"; choose another name'):
        library.rename("Anna", "anna")
    library.save("Bert", identity)
    for target in ("anna", "ANNA"):
        with pytest.raises(BeyondFacialError, match="already a saved identity"):
            library.rename("Bert", target)
    (library.folder / "Zoe\u200b.safetensors").write_bytes(other)  # not listed, and in nobody's way
    assert (library.folder / "anna.safetensors").read_bytes() == other
    library.save("anna", identity, overwrite=True)  # the very name is meant, not the one beside it
    assert library.names() == ["Anna", "anna", "Bert"]


def test_an_identity_that_goes_meanwhile_is_unknown(library, identity, analyser, monkeypatch):
    """Two deletes at once: the second one's file is gone between looking and doing."""
    for action in (
        library.delete,
        library.entry,
        lambda n: library.rename(n, "B"),
        lambda n: library.load(n, analyser),
    ):
        library.save("Anna", identity)
        real, path = library._known, library.folder / "Anna.safetensors"

        def late(name, real=real, path=path):
            found = real(name)
            path.unlink(missing_ok=True)
            return found

        monkeypatch.setattr(library, "_known", late)
        with pytest.raises(UnknownIdentityError, match='no saved identity "Anna"'):
            action("Anna")
        monkeypatch.undo()


def test_hundreds_are_listed_at_once_and_lists_follow_the_files(library, identity):
    library.save("person 0", identity)
    data = (library.folder / "person 0.safetensors").read_bytes()
    for i in range(1, 400):
        (library.folder / f"person {i}.safetensors").write_bytes(data)
    began = time.process_time()
    entries = library.entries()
    first = time.process_time() - began
    assert len(entries) == 400
    again = library.entries()
    spent = time.process_time() - began - first
    print(f"400 identities: {first:.2f} s, again {spent:.2f} s")
    assert first < 2
    assert spent < 0.5
    assert all(a is b for a, b in zip(entries, again, strict=True))
    (library.folder / "person 7.safetensors").write_bytes(b"damaged")
    library.delete("person 8")
    changed = {entry.name: entry for entry in library.entries()}
    assert "damaged" in changed["person 7"].sentence
    assert "person 8" not in changed
    assert len(library._index) == 399


def test_what_a_killed_save_left_goes_at_the_next_start(library, identity):
    library.save("Anna", identity)
    left, fresh = library.folder / ".saving-left", library.folder / ".saving-fresh"
    for path in (left, fresh):
        path.write_bytes(b"half an identity")
    os.utime(left, (time.time() - 10,) * 2)
    Library(library.folder)
    assert names_in(library.folder) == {"Anna.safetensors", ".saving-fresh"}


class SharingViolationError(PermissionError):
    """As Windows raises it: somebody else has the file open."""

    winerror = 32


def test_files_that_windows_says_are_open_are_waited_for(library, identity, analyser, monkeypatch):
    """Windows' rules by a double: a file that somebody reads cannot be replaced, renamed or deleted meanwhile."""
    tries: dict[str, int] = {}
    for name in ("replace", "rename", "unlink"):
        real = getattr(plain_files.Path, name)

        def late(path, *args, real=real, name=name, **kwargs):
            tries[name] = tries.get(name, 0) + 1
            if tries[name] % 3:
                raise SharingViolationError(13, "The process cannot access the file", str(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(plain_files.Path, name, late)
    library.save("Anna", identity)
    library.rename("Anna", "Bert")
    assert library.load("Bert", analyser).photo_hash == identity.photo_hash
    library.delete("Bert")
    assert names_in(library.folder) == set()
    assert tries == {"replace": 3, "rename": 3, "unlink": 3}
    monkeypatch.undo()
    monkeypatch.setattr(plain_files, "PATIENCE_S", 0.1)
    library.save("Carl", identity)

    def never(*_args):
        raise SharingViolationError(13, "The process cannot access the file", str(library.folder))

    monkeypatch.setattr(plain_files.Path, "replace", never)
    with pytest.raises(BeyondFacialError, match='"Carl" cannot be saved .The process cannot access') as caught:
        library.save("Carl", identity, overwrite=True)
    assert str(library.folder) not in str(caught.value)
    assert names_in(library.folder) == {"Carl.safetensors"}


@pytest.mark.parametrize("spoil", ["overwritten", "cut off", "deleted"])
def test_a_file_that_changes_after_it_was_loaded(spoil, library, identity, analyser):
    library.save("Anna", identity, keep_crops=True)
    path, loaded = library.folder / "Anna.safetensors", library.load("Anna", analyser)
    if spoil == "deleted":
        path.unlink()
    else:
        path.write_bytes(bytes(path.stat().st_size) if spoil == "overwritten" else b"")
    np.testing.assert_array_equal(loaded.aligned, identity.aligned)
    np.testing.assert_array_equal(loaded.photos, identity.photos)
    with pytest.raises(BeyondFacialError, match='"Anna"'):
        library.load("Anna", analyser)


def test_long_and_foreign_folders(tmp_path, identity, analyser):
    folder = tmp_path / "Ünï [x] 李 & co" / ("long " * 30).strip() / ("longer " * 30).strip()
    library = Library(folder)
    library.save("李小龙 " + "x" * 50, identity)
    assert library.load("李小龙 " + "x" * 50, analyser).photo_hash == identity.photo_hash
