"""X/Y/Z plots: each cell is the request that its values ask for, and nothing is left after the grid."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import HTTPException

from demo.miniwebui import host as miniature
from demo.miniwebui import processing, scripts, shared
from demo.miniwebui.xyz_grid import plot_cells
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.sampling import sampling_pass
from lib_beyondfacial.settings import FIELDS, PRESETS, Settings
from lib_beyondfacial.webui import cells, xyz
from tests.webui import conftest

PLAIN = {"prompt": "photo of a man", "seed": 7, "steps": 3, "width": 64, "height": 64, "sampler_name": "Euler"}


@pytest.fixture(scope="module")
def host(models_dir):
    """A booted host with us and with its own script that plots."""
    return miniature.boot(models_dir, [miniature.REPOSITORY, miniature.XYZ_GRID])


@pytest.fixture
def axes(host):
    """Our axes by label, as the host's list has them behind its own."""
    xyz.add_axes()  # "Reload UI" calls it again
    listed = [option for option in xyz.find_module().axis_options if option.label.startswith("[BeyondFacial] ")]
    return {option.label.removeprefix("[BeyondFacial] "): option for option in listed}


@pytest.fixture
def make(host, photo, tmp_path, monkeypatch):
    """A job of the page or the API, set up as the host does, not yet processed."""
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)

    def make(unit=None, is_api=True, **fields):
        unit = {"references": [photo], "adapter": "fits", "refine_head": False, **(unit or {})}
        args = host.api.script_args({"BeyondFacial": {"args": [unit]}})
        p = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **PLAIN, **fields)
        p.scripts, p.script_args, p.is_api = scripts.scripts_txt2img, args, is_api
        shared.state.begin()
        p.scripts.setup(p)
        return p

    return make


def same(first, second):
    return np.array_equal(np.asarray(first), np.asarray(second))


def test_the_axes_are_the_settings_that_are_declared_as_axes(axes):
    labels = [option.label for option in xyz.find_module().axis_options]
    assert len(labels) == len(set(labels))
    assert list(axes) == ["Preset", *(field.label for field in FIELDS if field.axis)]
    keys = {"weight", "start", "stop", "mask_strength", "idap_strength", "refine_head", "refine_weight"}
    assert keys | {"adapter", "identity"} == {field.key for field in FIELDS if field.axis}
    assert axes["Identity adapter"].cost > axes["Start"].cost


def test_a_host_without_plots_is_left_alone(host, monkeypatch):
    monkeypatch.setattr(scripts, "scripts_data", scripts.scripts_data[:1])
    assert xyz.find_module() is None
    xyz.add_axes()


def test_a_cell_is_the_request_with_its_values(axes, make):
    p = make()
    before = {key: value for key, value in vars(p).items() if key != "scripts"}
    made = plot_cells(p, [(axes["Likeness"], ["0.5", "1"]), (axes["Start"], ["0", "0.4"])])
    wanted = [make({"weight": w, "start": s}) for w in (0.5, 1.0) for s in (0.0, 0.4)]
    for cell, request in zip(made, wanted, strict=True):
        assert same(cell.image, processing.process_images(request).images[0])
    assert [cell.legend for cell in made][1] == ["Likeness: 0.5", "Start: 0.4"]
    assert {key: value for key, value in vars(p).items() if key != "scripts"} == before
    assert "BeyondFacial" not in str(p.extra_generation_params)


def test_each_cells_infotext_is_its_own(axes, make):
    """A value that differs from the default in one cell is not in the next one's."""
    first, second = plot_cells(make(), [(axes["Likeness"], ["0.5", "1"])])
    assert "BeyondFacial weight: 0.5" in first.text
    assert "BeyondFacial weight" not in second.text


@pytest.mark.parametrize("is_page", [True, False])
def test_presets_come_first_and_other_axes_vary_them(axes, make, is_page):
    p = make()
    if is_page:
        p.script_args = page_args(p)
    order = [(axes["Preset"], ["As in the paper"]), (axes["Start identity"], ["0.1"])]
    for listed in (order, order[::-1]):
        (cell,) = plot_cells(p, listed)
        assert "BeyondFacial style: 0.5" in cell.text
        assert "BeyondFacial idap strength: 0.1" in cell.text


def test_the_likeness_of_the_pages_one_person_is_an_axis_too(axes, make):
    p = make()
    p.script_args = page_args(p)
    (cell,) = plot_cells(p, [(axes["Likeness"], ["0.5"])])
    assert same(cell.image, processing.process_images(make({"weight": 0.5})).images[0])


def page_args(p):
    """The same request as the page sends it: a value a setting."""
    script = next(each for each in p.scripts.scripts if each.name == "beyondfacial")
    unit = p.script_args[script.args_from]
    values = conftest.page_args({**unit, "enabled": True})
    args = list(p.script_args)
    args[script.args_from : script.args_to] = values
    return tuple(args)


def test_identities_by_name_take_the_place_of_photos(axes, make, host, photo):
    from fastapi.testclient import TestClient

    client = TestClient(host.app)
    saved = client.post("/beyondfacial/v1/identities", json={"name": "Anna", "references": [photo]})
    assert saved.status_code == 200, saved.text
    assert axes["Saved identity"].choices() == ["Anna"]
    (cell,) = plot_cells(make(), [(axes["Saved identity"], ["Anna"])])
    alone = processing.process_images(make({"references": [], "identity": "Anna"}))
    assert same(cell.image, alone.images[0])
    assert cell.legend == ["Saved identity: Anna"]


def test_with_two_persons_the_likeness_is_boths_and_the_identity_the_firsts():
    """On the page and in the API's object."""
    persons = [{"references": ["x"], "weight": 0.5}, {"references": ["y"]}]
    unit = ({"persons": persons, "weight": 0.9},)
    page = tuple(conftest.page_args({"enabled": True, "references": ["x"], "person_2_references": ["y"]}))
    for args in (unit, page):
        p = SimpleNamespace()
        cells.set_value(p, cells.AXES["weight"], 1.5)
        assert [each.weight for each in Settings.from_script_args(*cells.apply_cell(p, args)).persons] == [1.5, 1.5]
        p = SimpleNamespace()
        cells.set_value(p, cells.AXES["identity"], "Anna")
        one, two = Settings.from_script_args(*cells.apply_cell(p, args)).persons
        assert (one.references, one.identity, two.references) == ((), "Anna", ("y",))
        assert persons[0] == {"references": ["x"], "weight": 0.5}


def test_choices_follow_the_table(axes):
    assert axes["Preset"].choices() == list(PRESETS)
    assert axes["Refine head"].choices() == ["True", "False"]
    assert "fits" in axes["Identity adapter"].choices()
    assert axes["Start"].choices is None


@pytest.mark.parametrize(
    ("label", "value", "sentence"),
    [
        ("Likeness", "99", '"weight" is 99'),
        ("Saved identity", "Nobody", '"Nobody"'),
        ("Identity adapter", "absent", '"absent"'),
        ("Preset", "Fastest", '"Fastest"'),
        ("Refine head", "maybe", '"refine_head" is'),
    ],
)
def test_a_value_that_cannot_be_used_refuses_the_whole_plot(axes, make, label, value, sentence):
    with pytest.raises(HTTPException) as caught:
        plot_cells(make(), [(axes[label], [value])])
    assert sentence in caught.value.detail
    with pytest.raises(BeyondFacialError):
        plot_cells(make(is_api=False), [(axes[label], [value])])


def test_warnings_and_errors_name_the_cell(axes, make):
    p = make({"stop": 0.5}, is_api=True)
    good, bad = plot_cells(p, [(axes["Start"], ["0.4", "0.6"])])
    assert good.image is not None
    assert bad.image is None
    assert any("Start: 0.6" in each and "smaller than stop" in each for each in p.comments)
    (cell,) = plot_cells(make(), [(axes["Mask strength"], ["0"])])
    assert "BeyondFacial: Mask strength: 0: " in cell.processed.comments


def test_an_error_while_a_cell_is_sampled_names_the_cell(axes, make, monkeypatch):
    def broken(*_args):
        raise BeyondFacialError("BeyondFacial: the identity line gave NaN.")

    monkeypatch.setattr(sampling_pass.SamplingPass, "delta", broken)
    p = make({"start": 0})
    (cell,) = plot_cells(p, [(axes["Likeness"], ["0.5"])])
    assert cell.image is None
    assert "BeyondFacial: Likeness: 0.5: the identity line gave NaN." in p.comments


def test_a_warning_before_sampling_is_in_the_cells_infotext(axes, make):
    (cell,) = plot_cells(make({"id_prompt": "{subject}"}), [(axes["Likeness"], ["0.5"])])
    assert "BeyondFacial warnings" in cell.text
    assert "{subject}" in cell.text


def test_the_page_is_warned_at_once(axes, make, monkeypatch):
    """A plot keeps the comments of its first cell alone."""
    p = make(is_api=False)
    p.script_args = page_args(p)[:1] + p.script_args[1:]
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        plot_cells(p, [(axes["Mask strength"], ["0"])])
    assert any("Mask strength: 0: " in str(each.message) for each in recorded)


def test_an_axis_without_us_is_told(axes, make):
    (cell,) = plot_cells(make({"enabled": False}), [(axes["Likeness"], ["0.5"])])
    assert "BeyondFacial is off" in cell.processed.comments
    assert "BeyondFacial" not in cell.text


def test_outside_of_a_plot_nothing_is_laid_over():
    p = processing.StableDiffusionProcessingTxt2Img()
    assert cells.apply_cell(p, (True, [], "")) == (True, [], "")
    assert cells.name_cell(p) == ""
    cells.set_value(p, cells.AXES["weight"], 0.5)
    assert cells.apply_cell(p, ({}, None)) == ({}, None)  # off stays off
