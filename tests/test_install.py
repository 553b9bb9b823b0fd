"""install.py: what is fetched, when nothing is, atomically, and never at the host's expense.

pip is replaced by a function that writes small packages, so that no test needs a network; the real wheels were tried
in an environment with a host's pins (docs/contributing.md says how to repeat that).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]


VERSIONS = {"insightface": "2.1", "onnx": "1.18.0", "onnxruntime": "1.26.0"}


def write_package(folder: Path, package: str, code: str = "") -> None:
    place = folder / package
    place.mkdir(parents=True, exist_ok=True)
    (place / "__init__.py").write_text(code, encoding="utf-8")
    if package == "insightface":
        (place / "app.py").write_text("import onnxruntime, onnx\n", encoding="utf-8")


def fake_fetch(packages, versions, target):
    for package in packages:
        write_package(target, package, f"__version__ = {versions[package]!r}\n")


def broken_fetch(packages, versions, target):
    fake_fetch(packages, versions, target)
    write_package(target, "onnxruntime", "raise ImportError('DLL load failed')\n")


@pytest.fixture
def bare_host(installer, monkeypatch):
    """A host with none of the packages; pip writes small ones."""
    monkeypatch.setattr(installer, "find_missing", lambda: list(installer.PACKAGES))
    monkeypatch.setattr(installer.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(installer, "fetch", fake_fetch)
    real = installer.install
    monkeypatch.setattr(installer, "install", lambda *args: real(*args, fetcher=installer.fetch))
    monkeypatch.setattr(installer, "find_import_errors", lambda *_a: {})
    return installer


def test_versions_by_python_and_machine(installer):
    assert installer.pinned_versions((3, 11), "Linux", "x86_64") == VERSIONS
    assert installer.pinned_versions((3, 13), "Darwin", "arm64") == VERSIONS
    older = {"insightface": "2.1", "onnx": "1.17.0", "onnxruntime": "1.23.2"}
    assert installer.pinned_versions((3, 10), "Windows", "AMD64") == older
    assert installer.pinned_versions((3, 12), "Darwin", "x86_64") == older
    assert installer.pinned_versions((3, 13), "Darwin", "x86_64") == {**older, "onnx": "1.18.0"}


def test_skip_install_is_honoured(installer, monkeypatch, capsys):
    monkeypatch.setattr(installer, "load_vendor_folder", lambda: pytest.fail("went on"))
    monkeypatch.setenv("COMMANDLINE_ARGS", '--xformers --skip-install --data-dir "a b"')
    installer.main()
    monkeypatch.setenv("COMMANDLINE_ARGS", "--skip-install 'unclosed")
    installer.main()
    monkeypatch.delenv("COMMANDLINE_ARGS")
    monkeypatch.setattr(sys, "argv", ["install.py", "--skip-install"])
    installer.main()
    assert capsys.readouterr().out == ""
    assert not installer.wants_skip(["--skip-install-not"], {"COMMANDLINE_ARGS": "--xformers"})


def test_the_private_folder_is_where_faces_look_for_it(installer, tmp_path):
    from lib_beyondfacial.faces import vendor

    assert installer.load_vendor_folder() == vendor.vendor_folder(tmp_path)
    assert vendor.vendor_folder().parent == ROOT / "vendor"
    assert installer.load_vendor_folder().name.startswith(f"cp{sys.version_info.major}{sys.version_info.minor}_")


def test_installs_once_and_then_does_nothing(bare_host, tmp_path, monkeypatch, capsys):
    bare_host.main()
    folder = bare_host.load_vendor_folder()
    assert json.loads((folder / "installed.json").read_text(encoding="utf-8")) == VERSIONS
    assert "installed into its own folder" in capsys.readouterr().out
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]
    monkeypatch.setattr(bare_host, "find_missing", lambda: pytest.fail("looked again"))
    monkeypatch.setattr(bare_host, "fetch", lambda *_a: pytest.fail("fetched again"))
    bare_host.main()
    assert capsys.readouterr().out == ""


def test_other_pins_or_a_lost_package_are_fetched_again(bare_host, capsys):
    bare_host.main()
    folder = bare_host.load_vendor_folder()
    (folder / "installed.json").write_text('{"insightface": "1.0"}', encoding="utf-8")
    bare_host.main()
    assert bare_host.is_installed(folder, VERSIONS)
    (folder / "onnx" / "__init__.py").unlink()
    (folder / "onnx").rmdir()
    bare_host.main()
    assert (folder / "onnx" / "__init__.py").is_file()
    for damaged in ("", "[]", "{}", "{"):
        (folder / "installed.json").write_text(damaged, encoding="utf-8")
        assert not bare_host.is_installed(folder, VERSIONS)


def test_a_failure_is_one_sentence_and_leaves_the_old_folder(bare_host, monkeypatch, capsys):
    bare_host.main()
    folder = bare_host.load_vendor_folder()
    (folder / "installed.json").write_text('{"onnx": "0.1"}', encoding="utf-8")
    capsys.readouterr()

    def offline(_packages, _versions, target):
        write_package(target, "half")
        raise RuntimeError("no network\nand more lines")

    monkeypatch.setattr(bare_host, "fetch", offline)
    bare_host.main()
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "(no network)" in printed
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]
    assert (folder / "insightface").is_dir()


def test_what_was_fetched_must_import(installer, tmp_path, monkeypatch):
    """The probe is real here: a Python process of its own."""
    monkeypatch.setattr(installer, "PACKAGES", ("fake_one", "fake_two"))
    monkeypatch.setattr(installer, "PROBE", {"fake_one": "fake_one", "fake_two": "fake_two"})
    versions = {"fake_one": "1", "fake_two": "2"}
    folder = tmp_path / "vendor" / "x"

    def fetcher(packages, _versions, target):
        write_package(target, "fake_one")
        write_package(target, "fake_two", "raise ImportError('DLL load failed')")

    with pytest.raises(RuntimeError, match="fake_two was fetched but cannot be imported .*DLL load failed"):
        installer.install(["fake_one", "fake_two"], versions, folder, fetcher)
    assert not folder.exists()
    kept = folder.with_name("x-untried")
    assert list(folder.parent.iterdir()) == [kept]
    with pytest.raises(RuntimeError, match='it is not fetched again unless you delete the folder "x-untried"'):
        installer.install(["fake_one", "fake_two"], versions, folder, lambda *_a: pytest.fail("fetched again"))
    write_package(kept, "fake_two", "import os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'")  # now it works
    installer.install(["fake_one", "fake_two"], versions, folder, lambda *_a: pytest.fail("fetched again"))
    assert installer.is_installed(folder, versions)
    assert list(folder.parent.iterdir()) == [folder]


def test_other_versions_are_fetched_beside_a_failure(installer, tmp_path, monkeypatch):
    folder, fetched = tmp_path / "vendor" / "x", []
    monkeypatch.setattr(installer, "find_import_errors", lambda *_a: {"onnx": "ImportError: no"})

    def fetcher(packages, versions, target):
        fetched.append(dict(versions))
        fake_fetch(packages, versions, target)

    for versions in (VERSIONS, VERSIONS, {**VERSIONS, "onnx": "2.0"}):
        with pytest.raises(RuntimeError, match="onnx was fetched but cannot be imported"):
            installer.install(list(VERSIONS), versions, folder, fetcher)
    assert fetched == [VERSIONS, {**VERSIONS, "onnx": "2.0"}]


def test_import_errors_are_told_even_when_python_dies(installer, tmp_path, monkeypatch):
    write_package(tmp_path, "fake_dead", "import os; os._exit(3)")
    write_package(tmp_path, "fake_fine", "print('chatter')")
    monkeypatch.setattr(installer, "PROBE", {name: name for name in ("fake_dead", "fake_fine", "fake_absent")})
    assert installer.find_import_errors(["fake_fine"], tmp_path) == {}
    assert installer.find_import_errors(["fake_absent"], tmp_path) == {"fake_absent": "MISSING"}
    assert "code 3" in installer.find_import_errors(["fake_dead"], tmp_path)["fake_dead"]


@pytest.mark.parametrize(
    ("present", "errors", "expected"),
    [
        ((), {}, ["insightface", "onnx", "onnxruntime"]),
        (("onnxruntime",), {}, ["insightface", "onnx"]),
        (("insightface", "onnx", "onnxruntime"), {}, []),
        (("onnxruntime",), {"onnxruntime": "ImportError: DLL\nload"}, "the host's own onnxruntime .*DLL.: repair"),
        (("insightface", "onnx", "onnxruntime"), {"insightface": "TypeError: x"}, "host's own insightface"),
    ],
)
def test_the_hosts_working_packages_are_used(installer, monkeypatch, present, errors, expected):
    found = {name: SimpleNamespace(origin=f"{name}/__init__.py") for name in present}
    monkeypatch.setattr(installer.importlib.util, "find_spec", found.get)
    monkeypatch.setattr(
        installer, "find_import_errors", lambda packages: {each: errors[each] for each in packages if each in errors}
    )
    if isinstance(expected, list):
        assert installer.find_missing() == expected
    else:
        with pytest.raises(RuntimeError, match=expected):
            installer.find_missing()


def test_a_folder_that_an_uninstallation_left_is_no_package(installer, tmp_path, monkeypatch):
    """As where onnxruntime-gpu goes while Windows has one of its libraries open."""
    (tmp_path / "left/onnxruntime/capi").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "left")])
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)  # a loaded one would be found
    assert importlib.util.find_spec("onnxruntime") is not None
    assert not installer.is_found("onnxruntime")
    assert not installer.has_all(tmp_path)


def test_a_host_that_has_everything_gets_no_folder(installer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(installer, "find_missing", list)
    installer.main()
    assert not (tmp_path / "vendor").exists()
    assert capsys.readouterr().out == ""


def test_pip_is_told_to_touch_nothing_else(installer, tmp_path, monkeypatch):
    recorded = {}

    def run(command, **options):
        recorded.update(command=command, env=options["env"])
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution\n")

    monkeypatch.setattr(installer.subprocess, "run", run)
    monkeypatch.setenv("INDEX_URL", "https://mirror.invalid/simple")
    with pytest.raises(RuntimeError, match="^the package index has no such package for Python 3"):
        installer.fetch(["onnx"], VERSIONS, tmp_path / "new")
    command = recorded["command"]
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[-1] == "onnx==1.18.0"
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)
    assert command[command.index("--target") + 1] == str(tmp_path / "new")
    assert command[command.index("--index-url") + 1] == "https://mirror.invalid/simple"
    assert recorded["env"]["PIP_USER"] == "0"


def test_leftovers_of_killed_starts_are_removed(installer, tmp_path):
    old, fresh, other = (tmp_path / name for name in (".new-old", ".new-fresh", "cp311"))
    for folder in (old, fresh, other):
        folder.mkdir()
    long_ago = time.time() - 2 * installer.STALE_S
    os.utime(old, (long_ago, long_ago))
    os.utime(other, (long_ago, long_ago))
    installer.remove_leftovers(tmp_path)
    assert not old.exists()
    assert fresh.exists()
    assert other.exists()


def test_it_runs_outside_any_host_and_imports_nothing_of_it():
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "install.py"), "--skip-install"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == done.stderr == ""
