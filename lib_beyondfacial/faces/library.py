"""Saved identities: one file each in one folder; names cannot lead out of the folder."""

from __future__ import annotations

import contextlib
import threading
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import BeyondFacialError
from .aggregate import Identity
from .analysis import FaceAnalyser
from .identity_file import MAX_SPACES, Record, bytes_to_record, record_to_bytes
from .names import check_name, is_name, same_name
from .plain_files import (
    START_STALE_S,
    UnknownIdentityError,
    explain_os_errors,
    read_plain,
    require_plain,
    sweep_temporaries,
    unknown,
    when_let_go,
    write_plain,
)
from .records import identity_to_record, packs_of, recogniser_of, record_to_identity

__all__ = ["Entry", "Library", "UnknownIdentityError"]

ENDING = ".safetensors"


_CHANGING = threading.RLock()  # a library is made anew for every request


@dataclass(frozen=True, eq=False)
class Entry:
    """The list entry of a saved identity.

    packs: names of the face packs whose embeddings it has.
    photos: number of photos that it was made from.
    created: UTC, as in "2026-11-21T10:00:00Z".
    has_crops: whether the aligned faces were saved, so that another pack can be used.
    thumbnail: RGB uint8 (128, 128, 3).
    sentence: why the file cannot be used (then the other fields are empty), else "".
    """

    name: str
    photo_hash: str = ""
    packs: tuple[str, ...] = ()
    photos: int = 0
    created: str = ""
    has_crops: bool = False
    thumbnail: np.ndarray | None = None
    sentence: str = ""


class Library:
    """The folder of saved identities, which is created at the first save.

    List entries are cached until the file changes. The constructor deletes temporary files of saves that were killed.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder).resolve()
        self._index: dict[str, tuple[tuple[int, int, int], Entry]] = {}
        sweep_temporaries(self.folder, START_STALE_S)

    def names(self) -> list[str]:
        """The names of all saved identities, sorted; no file is read."""
        return sorted(self._files(), key=lambda name: (same_name(name), name))

    def entries(self) -> list[Entry]:
        """The entries of all saved identities; damaged files have a sentence."""
        files, found = self._files(), {}
        for name in sorted(files, key=lambda name: (same_name(name), name)):
            with contextlib.suppress(UnknownIdentityError):  # deleted meanwhile
                found[name] = self._entry(name, files[name])
        for name in [each for each in list(self._index) if each not in found]:
            self._index.pop(name, None)
        return list(found.values())

    def entry(self, name: str) -> Entry:
        """The entry of this name; UnknownIdentityError if there is none."""
        name = check_name(name)
        return self._entry(name, self._known(name))

    def save(self, name: str, identity: Identity, keep_crops: bool = False, overwrite: bool = False) -> None:
        """Save an identity under a name.

        If it replaces one that was made from the same photos, the embeddings of other packs are kept; otherwise
        nothing of the old one remains.
        """
        name = check_name(name)
        with _CHANGING, explain_os_errors("saved", name):
            clash = self._clash(name)
            if clash is not None and not (overwrite and clash == name):
                advice = "choose another name" if clash != name else "choose another name or overwrite it"
                raise BeyondFacialError(f'There is already a saved identity "{clash}"; {advice}.')
            data = record_to_bytes(self._merged(name, identity, keep_crops, has_old=clash is not None))
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep_temporaries(self.folder)
            write_plain(self._path(name), data)

    def load(self, name: str, analyser: FaceAnalyser) -> Identity:
        """Load the identity with the embeddings of this analyser's pack.

        If the file has none, they are computed from the saved crops; without crops, BeyondFacialError names the pack
        that it was saved with.
        """
        name = check_name(name)
        record = self.record(name)
        identity = record_to_identity(record, analyser, name)
        if identity is None:
            packs = " or ".join(f'"{pack}"' for pack in packs_of(record))
            raise BeyondFacialError(
                f'The identity "{name}" was saved with the face pack {packs} and cannot be used with '
                f'"{analyser.name}"; choose that pack, or save the identity again from its photos.'
            )
        return identity

    def record(self, name: str) -> Record:
        """All that is saved under the name."""
        name = check_name(name)
        return self._read(name, self._known(name))

    def rename(self, old: str, new: str) -> None:
        """Rename a saved identity; the new name may differ only in upper and lower case."""
        old, new = check_name(old), check_name(new)
        with _CHANGING, explain_os_errors("renamed", old):
            source = self._known(old)
            clash = self._clash(new, but=old)
            if clash is not None:
                raise BeyondFacialError(f'There is already a saved identity "{clash}"; choose another name.')
            require_plain(source, old)
            target = self.folder / f"{new}{ENDING}"
            if target.exists() and not target.samefile(source):  # a file that is not listed
                raise BeyondFacialError(f'There is already a file named "{new}{ENDING}"; choose another name.')
            when_let_go(lambda: source.rename(target))

    def delete(self, name: str) -> None:
        """Delete a saved identity, also a damaged one, and temporary files of killed saves."""
        name = check_name(name)
        with _CHANGING, explain_os_errors("deleted", name):
            path = self._known(name)
            require_plain(path, name)
            when_let_go(path.unlink)
            sweep_temporaries(self.folder)

    def by_hash(self, photo_hash: str) -> str | None:
        """The name of the identity made from these photos; the first by name if there are several."""
        return next((entry.name for entry in self.entries() if photo_hash and entry.photo_hash == photo_hash), None)

    def _files(self) -> dict[str, Path]:
        """Files by name, without those whose names check_name refuses."""
        try:
            paths = sorted(path for path in self.folder.iterdir() if path.suffix == ENDING)
        except OSError:
            return {}
        # some systems return another Unicode normalisation than was written
        named = {unicodedata.normalize("NFC", path.stem): path for path in paths}
        return {name: path for name, path in named.items() if is_name(name)}

    def _path(self, name: str) -> Path:
        """The path for a name."""
        path = self._files().get(name, self.folder / f"{name}{ENDING}")
        assert path.parent == self.folder  # check_name refuses separators
        return path

    def _clash(self, name: str, but: str = "") -> str | None:
        """A saved name that some file system treats as equal to this one: itself, else another than `but`."""
        alike = [known for known in self._files() if same_name(known) == same_name(name) and known != but]
        return name if name in alike else next(iter(alike), None)

    def _known(self, name: str) -> Path:
        """The file of a name; UnknownIdentityError if there is none."""
        path = self._files().get(name)
        if path is None:
            raise unknown(name)
        return path

    def _read(self, name: str, path: Path) -> Record:
        with explain_os_errors("read", name):
            data = read_plain(path, name)
        return bytes_to_record(name, data)

    def _entry(self, name: str, path: Path) -> Entry:
        with explain_os_errors("read", name):
            stat = path.lstat()
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        known = self._index.get(name)
        if known is None or known[0] != stamp:
            known = self._index[name] = stamp, self._read_entry(name, path)
        return known[1]

    def _read_entry(self, name: str, path: Path) -> Entry:
        try:
            record = self._read(name, path)
        except UnknownIdentityError:
            raise
        except BeyondFacialError as error:
            return Entry(name, sentence=str(error))
        return Entry(
            name=name,
            photo_hash=record.photo_hash,
            packs=packs_of(record),
            photos=len(record.spaces[0].photos),
            created=record.created,
            has_crops=record.aligned is not None,
            thumbnail=record.thumbnail,
        )

    def _merged(self, name: str, identity: Identity, keep_crops: bool, has_old: bool) -> Record:
        record = identity_to_record(identity, keep_crops)
        if not has_old:
            return record
        try:
            old = self._read(name, self._path(name))
        except BeyondFacialError:  # damaged: there is nothing to keep
            return record
        if old.photo_hash != record.photo_hash or len(old.spaces[0].photos) != len(identity.photos):
            return record
        others = tuple(space for space in old.spaces if recogniser_of(space.id) != recogniser_of(identity.space))
        return replace(record, spaces=(*record.spaces, *others)[:MAX_SPACES])
