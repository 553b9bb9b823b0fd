"""What goes wrong within a head refinement: a warning or an error with a sentence, and the pass goes on or ends."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.sampling.head_refinement import NO_PICTURE, NOT_WITH_INPAINTING
from tests.sampling.conftest import HEAD_COLOUR, drawing, face, finding, predict, run_level
from tests.sampling.host_double import HostDouble


@pytest.mark.parametrize("broken", ["decode_latents", "encode_images"])
def test_vae_that_gives_nan_is_a_warning_and_the_pass_goes_on(refining, broken):
    sampling, predictions = refining(finding([face()])), predict()
    plain = refining(finding([]), refine_head=False)
    original = getattr(sampling.host, broken)
    setattr(sampling.host, broken, lambda x: original(x) * float("nan"))
    for sigma in (1.5, 1.0, 0.5):
        assert torch.equal(run_level(sampling, sigma, predictions), run_level(plain, sigma, predictions))
    assert sampling.report.warnings == [NO_PICTURE]
    assert not sampling.report.drawn
    assert sampling.host.order[-1] == "load_unet", "the VAE may have put it out of the device's memory"


def test_interrupt_ends_the_refinement_at_its_next_step(refining):
    host = drawing()

    def press_in_the_second_step(x, sigma):
        host.interrupted = len(host.calls) == 2
        return torch.full_like(x, HEAD_COLOUR)

    host.x0 = press_in_the_second_step
    sampling = refining(finding([face()]), host=host)
    run_level(sampling, 1.5, predict())
    assert len(host.calls) == 2, "of two steps"
    assert not sampling.report.warnings
    assert not sampling.report.refined
    assert not sampling.refinement.should_refine(0.5)
    assert host.progress[-1] == ""


def test_inpainting_model_is_a_warning(refining):
    find, host = finding([face()]), drawing()
    host.crops = False
    sampling = refining(find, host=host)
    run_level(sampling, 1.5, predict())
    run_level(sampling, 0.5, predict())
    assert not find.pictures
    assert sampling.report.warnings == [NOT_WITH_INPAINTING]


def test_failure_in_the_refinement_is_an_error_with_a_message(refining):
    sampling = refining(lambda image: 1 / 0)
    with pytest.raises(BeyondFacialError, match="head refinement failed .ZeroDivisionError.*refine_head"):
        run_level(sampling, 1.5, predict())
    assert not sampling.host.injection.is_attached


def test_nan_of_the_identity_line_in_the_refinement_is_refused(refining):
    host = HostDouble()
    host.x0 = lambda x, sigma: x * float("nan") if host.injection.is_attached else x
    with pytest.raises(BeyondFacialError, match="^BeyondFacial: the identity line gave NaN"):
        run_level(refining(finding([face()]), host=host), 1.5, predict())


def test_nan_of_the_model_itself_in_the_refinement_is_not_blamed_on_the_identity(refining):
    sampling = refining(finding([face()]), host=HostDouble(x0=lambda x, sigma: x * float("nan")))
    with pytest.raises(BeyondFacialError, match="^BeyondFacial: the model itself gave NaN"):
        run_level(sampling, 1.5, predict())


def test_window_ends_before_the_first_attempt(refining):
    sampling = refining(finding([face()]), stop=0.3)
    assert not sampling.acts(1.5)
