"""Install insightface, onnx and onnxruntime, if the host lacks them, into a private folder of this extension.

The host runs this at its start. Its own packages are never changed: pip gets `--no-deps --target`, wheels only, and
the folder is appended to sys.path later (lib_beyondfacial/faces/vendor.py), so the host's packages come first.
Packages that were downloaded but cannot be imported are kept in a second folder and tried again at each start, without
another download. On failure one sentence is printed, and the host starts as usual.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

EXTENSION = Path(__file__).resolve().parent
PACKAGES = ("insightface", "onnx", "onnxruntime")
PROBE = {"insightface": "insightface.app", "onnx": "onnx", "onnxruntime": "onnxruntime"}
STAMP = "installed.json"
TEMPORARY = ".new-"
UNTRIED = "-untried"  # suffix of the folder with packages that were downloaded but cannot be imported yet
STALE_S = 3600.0  # a temporary folder older than this belongs to a start that was killed
TIMEOUT_S = 1800
MISSING = "MISSING"
NEWEST_PYTHON = (3, 13)  # the newest for which the pinned versions have wheels
SHARING_VIOLATIONS = (5, 32)  # Windows' error numbers for files that another program (a virus scanner) has open
PATIENCE_S = 10.0
EXPLAINED = (  # pattern in pip's output -> its meaning; the first match counts
    (r"CERTIFICATE_VERIFY_FAILED|SSLError", "the package index cannot be trusted: a proxy or a clock may be wrong"),
    (
        r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|ConnectionResetError|"
        r"Failed to establish a new connection|Temporary failure in name resolution|getaddrinfo failed",
        "no connection to the package index: go online, or set INDEX_URL to one that can be reached",
    ),
    (
        r"Long Path support",
        "the path is too long for Windows: allow long paths, or move the web UI into a shorter one",
    ),
    (r"No space left on device|not enough space", "the disk is full"),
)


def pinned_versions(python: tuple[int, int], system: str, machine: str) -> dict[str, str]:
    """Versions that have wheels for this platform and work with the hosts' numpy 1.26 and protobuf 3.20."""
    if python < (3, 11) or (system == "Darwin" and machine == "x86_64"):
        onnx = "1.17.0" if python < (3, 13) else "1.18.0"
        return {"insightface": "2.1", "onnx": onnx, "onnxruntime": "1.23.2"}
    return {"insightface": "2.1", "onnx": "1.18.0", "onnxruntime": "1.26.0"}


def wants_skip(arguments: list[str], environment: Mapping[str, str]) -> bool:
    """Whether the user said --skip-install: on this command line or in COMMANDLINE_ARGS (a host that got it on its own
    command line does not run installers at all)."""
    try:
        given = shlex.split(environment.get("COMMANDLINE_ARGS", ""))
    except ValueError:
        given = environment.get("COMMANDLINE_ARGS", "").split()
    return "--skip-install" in (*arguments, *given)


def load_vendor_folder() -> Path:
    """The private folder by lib_beyondfacial/faces/vendor.py, loaded by path because its package needs torch."""
    spec = importlib.util.spec_from_file_location(
        "beyondfacial_vendor", EXTENSION / "lib_beyondfacial/faces/vendor.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.vendor_folder(EXTENSION)


def find_import_errors(packages: list[str], folder: Path | None = None) -> dict[str, str]:
    """The packages that this Python cannot import, each with the reason; MISSING if one is not installed.

    Runs in a new process, with `folder` appended to sys.path, because a failed import of compiled code cannot be
    undone.
    """
    code = (
        "import importlib, importlib.util, json, sys\n"
        f"sys.path += {[str(folder)] if folder else []!r}\n"
        "errors = {}\n"
        f"for package, module in {[(package, PROBE[package]) for package in packages]!r}:\n"
        "    try:\n"
        "        spec = importlib.util.find_spec(package)\n"
        "        if spec is None or spec.origin is None:\n"
        f"            errors[package] = {MISSING!r}\n"
        "        else:\n"
        "            importlib.import_module(module)\n"
        "    except BaseException as error:\n"
        "        errors[package] = f'{type(error).__name__}: {error}'\n"
        "print('\\n' + json.dumps(errors))\n"
    )
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, timeout=TIMEOUT_S, check=False
    )
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {packages[0]: f"the import ended Python with code {done.returncode}"}


def is_found(package: str) -> bool:
    """Whether this Python has the package; a folder that an uninstallation left behind has no origin."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def find_missing() -> list[str]:
    """The packages that the host lacks; RuntimeError with a message for one that it has but cannot import."""
    absent = [package for package in PACKAGES if not is_found(package)]
    present = [package for package in PACKAGES if package not in absent and package != "insightface"]
    errors = find_import_errors(present) if present else {}
    if not absent:  # insightface imports the other two, so it is tested only if all are installed
        errors |= find_import_errors(["insightface"])
    for package, reason in errors.items():
        raise RuntimeError(f"the host's own {package} cannot be imported ({_first_line(reason)}): repair or remove it")
    return absent


def fetch(packages: list[str], versions: Mapping[str, str], target: Path) -> None:
    """Run pip install into `target`, without dependencies, wheels only; RuntimeError with the reason if it fails."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--target", str(target)]
    command += ["--no-input", "--disable-pip-version-check", "--retries", "2", "--timeout", "20"]
    if os.environ.get("INDEX_URL"):  # a setting of the hosts
        command += ["--index-url", os.environ["INDEX_URL"]]
    command += [f"{package}=={versions[package]}" for package in packages]
    environment = {**os.environ, "PIP_USER": "0"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(explain_pip(f"{done.stdout}\n{done.stderr}") or f"pip ended with {done.returncode}")


def explain_pip(output: str) -> str:
    """The reason why pip failed, from its output."""
    for sign, meaning in EXPLAINED:
        if re.search(sign, output):
            return meaning
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    if ("Traceback (most recent call last)" in output and not errors) or "No module named pip" in output:
        return f'pip itself is broken ({lines[-1].strip()[:200]}): repair it with "{sys.executable} -m ensurepip"'
    if "No matching distribution" in output:
        python = ".".join(map(str, sys.version_info[:2]))
        what = re.search(r"No matching distribution found for (\S+)", output)
        package = what[1].replace("==", " ") if what else "such package"
        return f"the package index has no {package} for Python {python} on {platform.system()} {platform.machine()}"
    return _first_line((errors or lines or [""])[-1])


def install(packages: list[str], versions: Mapping[str, str], folder: Path, fetcher: Callable = fetch) -> None:
    """Download into a temporary folder beside `folder`, test the imports, then rename it to `folder`.

    Packages that cannot be imported are kept in the UNTRIED folder, so that the next start needs no download.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    untried = folder.with_name(folder.name + UNTRIED)
    if not (is_installed(untried, versions) and all((untried / package).is_dir() for package in packages)):
        new = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.parent))
        try:
            fetcher(packages, versions, new)
            stamp = {package: versions[package] for package in packages}
            (new / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
            new.chmod(0o755)
            put(new, untried)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    for package, reason in find_import_errors(list(PACKAGES), untried).items():
        raise RuntimeError(
            f"{package} was fetched but cannot be imported ({_first_line(reason)}); it is not fetched again "
            f'unless you delete the folder "{untried.name}"'
        )
    put(untried, folder)


def put(source: Path, target: Path) -> None:
    """Replace a folder by another; if that fails, the old one is restored."""
    old = target.parent / f"{TEMPORARY}old-{os.getpid()}-{time.time_ns()}"
    if target.exists():
        rename(target, old)
    try:
        rename(source, target)
    except OSError:
        if old.exists():
            rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def rename(source: Path, target: Path) -> None:
    """Rename a folder; retry for PATIENCE_S if Windows refuses because a file in it is open."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            source.rename(target)
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in SHARING_VIOLATIONS or time.monotonic() > end:
                raise
            time.sleep(0.2)


def remove_leftovers(parent: Path) -> None:
    """Delete temporary folders of starts that were killed."""
    for left in parent.glob(f"{TEMPORARY}*"):
        if time.time() - left.stat().st_mtime > STALE_S:
            shutil.rmtree(left, ignore_errors=True)


def is_installed(folder: Path, versions: Mapping[str, str]) -> bool:
    """Whether the private folder has these versions, completely installed."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = isinstance(stamp, dict) and bool(stamp) and all(versions.get(key) == value for key, value in stamp.items())
    return same and all((folder / package).is_dir() for package in stamp)


def has_all(folder: Path) -> bool:
    """Whether each package is in the private folder or in the host (found, not imported: this must be fast)."""
    return all((folder / package).is_dir() or is_found(package) for package in PACKAGES)


def main() -> None:
    """Install the missing packages, unless the user said --skip-install; never raises."""
    if wants_skip(sys.argv[1:], os.environ):
        return
    try:
        versions = pinned_versions(sys.version_info[:2], platform.system(), platform.machine())
        folder = load_vendor_folder()
        if is_installed(folder, versions) and has_all(folder):
            return
        missing = find_missing()
        if missing:
            check_python(missing)
            install(missing, versions, folder)
            say(f"{', '.join(missing)} installed into its own folder.")
    except subprocess.TimeoutExpired:
        say(f"could not set up its face analysis (it took more than {TIMEOUT_S // 60} minutes).")
    except Exception as error:
        reason = _first_line(str(error)) or type(error).__name__
        say(f"could not set up its face analysis ({reason}); it looks again at the next start.")


def check_python(missing: list[str]) -> None:
    """RuntimeError if this Python is newer than the wheels."""
    python, compiled = sys.version_info[:2], [package for package in missing if package != "insightface"]
    if python > NEWEST_PYTHON and compiled:
        newest = ".".join(map(str, NEWEST_PYTHON))
        raise RuntimeError(
            f"there are no wheels of {' and '.join(compiled)} for Python {python[0]}.{python[1]}: run the web UI with "
            f"Python 3.10 to {newest}"
        )


def say(text: str) -> None:
    """Print one line, also on consoles that cannot show all its characters."""
    line = f"BeyondFacial: {text}"
    try:
        print(line)
    except UnicodeEncodeError:
        print(line.encode("ascii", "replace").decode())


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:300] if lines else ""


if __name__ == "__main__":
    main()
