"""install.py where something fails: one sentence that says what, and nothing is lost or fetched twice."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

VERSIONS = {"insightface": "2.1", "onnx": "1.18.0", "onnxruntime": "1.26.0"}


def write_package(folder: Path, package: str) -> None:
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text("", encoding="utf-8")


BROKEN_CONNECTION = (
    "WARNING: Retrying (Retry(total=1, connect=None)) after connection broken by "
    "'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new "
    "connection: [Errno -3] Temporary failure in name resolution')': /simple/onnx/\n"
    "ERROR: Could not find a version that satisfies the requirement onnx==1.18.0 (from versions: none)\n"
    "ERROR: No matching distribution found for onnx==1.18.0\n"
)
CRASH = (
    "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\nImportError: cannot import name 'y'\n"
)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (BROKEN_CONNECTION, "^no connection to the package index"),
        ("ERROR: x\nssl.SSLError: CERTIFICATE_VERIFY_FAILED", "^the package index cannot be trusted"),
        (
            "ERROR: Could not find a version ... (from versions: 0.1)\nERROR: No matching distribution found for "
            "onnx==1.18.0",
            r"^the package index has no onnx 1\.18\.0 for Python 3\.\d+ on ",
        ),
        (CRASH, r"^pip itself is broken \(ImportError: cannot import name 'y'\): repair it"),
        ("/usr/bin/python: No module named pip\n", r"^pip itself is broken \(.*No module named pip\)"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "^the disk is full$",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 2] No such file: 'C:\\x'\nHINT: This "
            "error might have occurred since this system does not have Windows Long Path support enabled.",
            "^the path is too long for Windows",
        ),
        ("WARNING: y\nERROR: something else", "^ERROR: something else$"),
    ],
)
def test_what_pip_says_in_words(installer, output, words):
    assert re.search(words, installer.explain_pip(output))


def test_a_real_pip_without_a_connection(installer, tmp_path, monkeypatch):
    """Port 9 of this machine answers nobody."""
    monkeypatch.setenv("INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    with pytest.raises(RuntimeError, match="^no connection to the package index"):
        installer.fetch(["onnx"], VERSIONS, tmp_path / "new")


def test_a_python_that_is_too_new_is_said_before_pip_runs(installer, monkeypatch, capsys):
    monkeypatch.setattr(installer, "find_missing", lambda: list(installer.PACKAGES))
    monkeypatch.setattr(installer, "has_all", lambda _folder: False)
    monkeypatch.setattr(installer, "install", lambda *_a: pytest.fail("went on"))
    monkeypatch.setattr(installer, "NEWEST_PYTHON", (3, 9))
    installer.main()
    python = ".".join(map(str, sys.version_info[:2]))
    words = f"no wheels of onnx and onnxruntime for Python {python}: run the web UI with Python 3.10 to 3.9"
    assert words in capsys.readouterr().out
    installer.check_python(["insightface"])  # pure Python: any will do


def test_the_newest_python_with_wheels(installer):
    assert installer.NEWEST_PYTHON == (3, 13)


def test_a_console_that_lacks_the_letters(installer, monkeypatch):
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", written)
    installer.say("Zugriff verweigert: C:\\Üser")
    written.seek(0)
    assert "C:\\?ser" in written.read()


class SharingViolationError(PermissionError):
    winerror = 32


def test_windows_old_folder_is_restored_after_a_failed_rename(installer, tmp_path, monkeypatch):
    """By a double of its rule: a folder with an open file in it is not renamed."""
    source, target, tries = tmp_path / "new", tmp_path / "old", []
    for folder in (source, target):
        write_package(folder, folder.name)
    real = Path.rename

    def refused(path, to):
        tries.append(path)
        if path == source and len(tries) < stop:
            raise SharingViolationError(13, "in use")
        return real(path, to)

    monkeypatch.setattr(Path, "rename", refused)
    monkeypatch.setattr(installer, "PATIENCE_S", 0.3)
    stop = 1000
    with pytest.raises(PermissionError):
        installer.put(source, target)
    assert {path.name for path in tmp_path.iterdir()} >= {"new", "old"}
    assert (target / "old").is_dir()
    stop = len(tries) + 4
    installer.put(source, target)
    assert (target / "new").is_dir()


def test_folders_of_any_letters(installer, tmp_path, monkeypatch):
    monkeypatch.setattr(installer, "PACKAGES", ("fake_one",))
    monkeypatch.setattr(installer, "PROBE", {"fake_one": "fake_one"})
    folder = tmp_path / "Ünï [x] 李 & 'co'" / "x"
    installer.install(["fake_one"], {"fake_one": "1"}, folder, lambda *args: write_package(args[2], "fake_one"))
    assert installer.is_installed(folder, {"fake_one": "1"})
