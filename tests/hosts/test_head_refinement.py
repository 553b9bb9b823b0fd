"""Head refinement on both kinds of host: once a head, of the head alone, and nothing of it stays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import HTTPException

from demo.nets import vae
from lib_beyondfacial.faces import FaceAnalyser
from lib_beyondfacial.method import head_refinement
from lib_beyondfacial.method.head_details import DrawnHead
from lib_beyondfacial.method.head_refinement import elliptical_mask
from lib_beyondfacial.sampling import crops
from lib_beyondfacial.sampling.head_refinement import LOOKING
from lib_beyondfacial.sampling.sampling_pass import SamplingPass

REQUEST = {"prompt": "a photo of man", "steps": 6, "width": 96, "height": 64, "seed": 5, "sampler_name": "DPM++ 2M"}
NEUTRAL = {"idap_strength": 0.0, "refine_size": 64}
HEAD = (60.0, 20.0, 76.0, 36.0)
OUTSIDE = (slice(None), slice(0, 32))  # of the picture's columns: far from the head


@pytest.fixture
def faces(monkeypatch, photo):
    """The boxes of the faces that are found in generated pictures; the photo's face is found as ever."""
    found = [HEAD]

    def find_in_scene(self, image):
        face = {"landmarks": np.zeros((5, 2)), "normed_embedding": np.zeros(512), "gender": None}
        return [SimpleNamespace(box=np.array(box), **face) for box in found]

    monkeypatch.setattr(FaceAnalyser, "find_in_scene", find_in_scene)
    return found


@pytest.fixture
def run(any_host, photo):
    def run(unit=None, **request):
        payload = {**REQUEST, **request}
        if unit is not None:
            args = {"enabled": True, "references": [photo], "adapter": "fits", **NEUTRAL, **unit}
            payload["alwayson_scripts"] = {"BeyondFacial": {"args": [args]}}
        images, info = any_host.txt2img(**payload)
        return [np.asarray(image).astype(int) for image in images], info

    return run


@pytest.fixture
def rows(monkeypatch):
    """Rows of every UNet call."""
    from demo.nets.unet import UNetModel

    counted: list[int] = []
    forward = UNetModel.forward

    def counting(self, x, *args, **kwargs):
        counted.append(len(x))
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(UNetModel, "forward", counting)
    return counted


def test_head_is_refined_and_then_the_line_rests(run, faces, rows):
    (without,), _ = run({"refine_head": False})
    before = sum(rows)
    rows.clear()
    (image,), _ = run({"refine_head": True})
    assert sum(rows) > before + head_refinement.STEPS, "two rows a step, less those of the line that rests"
    change = np.abs(image - without).mean(-1)
    assert change[20:36, 60:76].mean() > 3
    assert change[20:36, 60:76].mean() > 3 * change[OUTSIDE].mean()
    (again,), _ = run({"refine_head": True})
    assert np.array_equal(image, again)


def test_the_finished_picture_gets_the_heads_details_and_nothing_else(run, faces, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(DrawnHead, "add_to", lambda self, picture: None)
        (decoded,), _ = run({})
    (image,), _ = run({})
    size = decoded.shape[:2]
    circle = elliptical_mask(head_refinement.crop_around(HEAD, size), size, size)[0].numpy() > 0
    assert np.array_equal(image[~circle], decoded[~circle])
    assert not np.array_equal(image[circle], decoded[circle])


@pytest.mark.parametrize("pressed", ["interrupted", "skipped"])
def test_an_unfinished_picture_gets_no_details(run, faces, monkeypatch, pressed):
    """Interrupted after the refinement."""
    from modules import shared

    added, original = [], SamplingPass.delta

    def press_afterwards(self, step, predictions):
        delta = original(self, step, predictions)
        if self.report.drawn:
            setattr(shared.state, pressed, True)
        return delta

    monkeypatch.setattr(DrawnHead, "add_to", lambda self, picture: added.append(picture))
    monkeypatch.setattr(SamplingPass, "delta", press_afterwards)
    assert len(run({})[0]) == 1
    assert not added


def test_the_hosts_progress_tells_each_step_of_the_refinement_and_its_bar_moves(run, faces, monkeypatch):
    """By less than the host's own step, which is as it was afterwards; nothing is left there."""
    from demo.miniwebui import shared

    shown: list[tuple[str | None, float]] = []
    monkeypatch.setattr(
        shared.State,
        "textinfo",
        property(lambda self: shown[-1][0], lambda self, words: shown.append((words, self.sampling_step))),
        raising=False,
    )
    bars: list[float] = []
    monkeypatch.setattr(
        shared.State,
        "sampling_step",
        property(lambda self: bars[-1] if bars else 0, lambda self, step: bars.append(step)),
        raising=False,
    )
    run({"refine_head": True})
    steps = [crops.REDRAWING.format(n, head_refinement.STEPS) for n in range(1, head_refinement.STEPS + 1)]
    assert [words for words, _ in shown if words] == [LOOKING, *steps]
    assert shown[-1][0] is None
    parts = [step for step in bars if isinstance(step, float)]
    assert len(parts) == head_refinement.STEPS - 1
    assert parts == sorted(parts)
    assert parts[-1] < int(parts[0]) + 1
    assert bars[bars.index(parts[-1]) + 1] == int(parts[0]), "what other callbacks read afterwards"
    shown.clear()
    bars.clear()
    run({"refine_head": False})
    assert not any(words for words, _ in shown)
    assert not any(isinstance(step, float) for step in bars)


def test_without_a_face_it_is_bit_equal_and_warned_of(run, faces):
    faces.clear()
    (without,), _ = run({"refine_head": False})
    (image,), info = run({"refine_head": True})
    assert np.array_equal(image, without)
    assert "face could be found" in str(info)


def test_large_head_is_bit_equal(run, faces):
    faces[:] = [(20.0, 4.0, 76.0, 60.0)]
    (without,), _ = run({"refine_head": False})
    (image,), info = run({"refine_head": True})
    assert np.array_equal(image, without)
    assert "face could be found" not in str(info)


def test_no_refinement_outside_the_window(run, faces, rows):
    (without,), _ = run({"refine_head": False, "start": 0.0, "stop": 0.3})
    before = sum(rows)
    rows.clear()
    (image,), _ = run({"refine_head": True, "start": 0.0, "stop": 0.3})
    assert np.array_equal(image, without)
    assert sum(rows) == before


def test_failure_in_the_refinement_fails_the_request_with_a_message(run, faces, monkeypatch):
    (plain,), _ = run()
    with monkeypatch.context() as broken:
        broken.setattr(head_refinement, "crop_resize", lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            run({})
    assert raised.value.status_code == 422
    assert "head refinement failed" in raised.value.detail
    assert "refine_head" in raised.value.detail
    assert np.array_equal(run()[0][0], plain)


@pytest.mark.parametrize("pressed", ["interrupted", "skipped"])
def test_interrupt_ends_the_refinement_at_its_next_step(run, faces, rows, monkeypatch, pressed):
    from modules import shared

    (plain,), _ = run()
    sample_euler, asked = head_refinement.sample_euler, []

    def press_in_the_second_step(predict, x, sigmas):
        def step(x, sigma):
            asked.append(sigma)
            if len(asked) == 2:
                setattr(shared.state, pressed, True)
                rows.clear()
            return predict(x, sigma)

        return sample_euler(step, x, sigmas)

    with monkeypatch.context() as patched:
        patched.setattr(head_refinement, "sample_euler", press_in_the_second_step)
        images, info = run({})
    assert len(asked) == 2
    assert not rows, "neither the refinement nor the host asks the UNet again"
    assert len(images) == 1
    assert "head refinement" not in str(info)
    assert np.array_equal(run()[0][0], plain)


@pytest.mark.parametrize("broken", [vae.Decoder, vae.Encoder])
def test_vae_that_gives_nan_is_a_warning_and_the_picture_goes_on(run, faces, monkeypatch, broken):
    """As in half precision: the hosts mend that, but only when the picture is done."""
    (without,), _ = run({"refine_head": False})
    original, asked = broken.forward, []

    def not_at_first(self, x):
        asked.append(x)
        return original(self, x * float("nan") if len(asked) == 1 else x)

    monkeypatch.setattr(broken, "forward", not_at_first)
    (image,), info = run({})
    assert asked
    assert np.array_equal(image, without)
    assert "VAE gave NaN" in str(info)


@pytest.mark.parametrize("any_host", ["a1111"], indirect=True)
def test_what_others_set_over_the_unet_does_not_see_the_crop(run, faces):
    """As a ControlNet of A1111 does: its hints are for the whole picture."""
    from modules import shared

    unet = shared.sd_model.model.diffusion_model
    unet_forward, sizes = unet.forward, []

    def forward(x, *args, **kwargs):
        sizes.append(tuple(x.shape[-2:]))
        return unet_forward(x, *args, **kwargs)

    unet.forward = forward
    try:
        run({})
        assert unet.__dict__["forward"] is forward
    finally:
        del unet.__dict__["forward"]
    assert set(sizes) == {(8, 12)}
