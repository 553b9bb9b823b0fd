"""What the page sends outlives the upload: queues pickle it, and run it when gradio's temporary file is gone."""

from __future__ import annotations

import copy
import os
import pickle
import tempfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import photos
from lib_beyondfacial.settings import BY_KEY, Settings
from lib_beyondfacial.webui import person
from lib_beyondfacial.webui.components import field_component
from tests.faces.conftest import draw
from tests.webui.conftest import page_args


@pytest.fixture
def upload():
    """An uploaded photo's path, in the folder that gradio uses."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "Anna.png"
    Image.fromarray(draw(1)).save(path)
    yield path
    path.unlink(missing_ok=True)
    folder.rmdir()


def handed_out(path):
    """What gradio hands to a function for a File component with this file."""
    with gr.Blocks():
        files = field_component("txt2img", BY_KEY["references"])
    if gr.__version__.startswith("3"):
        return files.preprocess([{"name": str(path), "data": None, "is_file": True, "orig_name": path.name}])
    from gradio.data_classes import FileData, ListFiles

    return files.preprocess(ListFiles(root=[FileData(path=str(path), orig_name=path.name)]))


def test_pickled_arguments_outlive_the_upload(upload):
    (given,) = handed_out(upload)
    expected = photos.decode_upload(str(upload))
    kept = pickle.loads(pickle.dumps([given]))
    upload.unlink()
    for each in (*kept, copy.deepcopy(given)):
        decoded = photos.decode_upload(each)
        assert decoded.name == "Anna.png"
        np.testing.assert_array_equal(decoded.image, expected.image)


def test_a_run_takes_them(upload, host):
    values = Settings(adapter="fits").to_dict() | {"references": pickle.loads(pickle.dumps(handed_out(upload)))}
    upload.unlink()
    settings = Settings.from_script_args(*page_args(values))
    assert person.load_photos(settings, False)[0].name == "Anna.png"


def test_an_upload_that_cannot_be_read_is_named_when_it_is_used(upload):
    upload.unlink()
    assert photos.read_upload(str(upload)) == str(upload)
    with pytest.raises(BeyondFacialError, match=r'"Anna.png" cannot be read any more'):
        photos.decode_upload(photos.read_upload(str(upload)))


def test_a_file_that_was_not_uploaded_is_not_read():
    path = os.__file__  # in no temp folder, wherever the tests are
    assert photos.read_upload(path) is path
