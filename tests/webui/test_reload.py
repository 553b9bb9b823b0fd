""" "Reload UI" loads the script file again; a library of an older version must not stay behind it."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from demo.miniwebui import host as miniature
from demo.miniwebui import scripts


@pytest.fixture
def extension(tmp_path):
    """A copy of the extension whose files may be changed; the library that was loaded before is put back."""
    for name in ("scripts", "lib_beyondfacial"):
        shutil.copytree(miniature.REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "lib_beyondfacial"}
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "lib_beyondfacial"]:
        del sys.modules[name]
    sys.modules.update(before)


def load(extension):
    scripts.load_scripts([extension])
    (data,) = scripts.scripts_data
    return data.module


def test_a_changed_library_is_loaded_with_the_script(host, extension):
    first = load(extension)
    assert first.lib_beyondfacial.__file__.startswith(str(extension))
    version = extension / "lib_beyondfacial/__init__.py"
    version.write_text('__version__ = "99"\n', encoding="utf-8")
    again = load(extension)
    assert again.lib_beyondfacial.__version__ == "99"
    assert again.run is not first.run
    assert sys.modules["lib_beyondfacial.webui.run"] is again.run


def test_a_deeper_file_counts_and_an_unchanged_library_stays(host, extension):
    first = load(extension)
    assert load(extension).run is first.run
    path = extension / "lib_beyondfacial/webui/run.py"
    os.utime(path, ns=(1, 1))
    assert load(extension).run is not first.run
