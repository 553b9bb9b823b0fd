"""One sampling pass without a web UI: windows, stride, the method's delta, and what is refused."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.method.mask import AdaptiveMask, NoAttentionError
from lib_beyondfacial.method.predictions import AttentionReadings, Predictions
from lib_beyondfacial.sampling.encoded_prompts import HEAD
from lib_beyondfacial.sampling.sampling_pass import REFINER
from lib_beyondfacial.settings.parameters import MethodParameters
from lib_beyondfacial.unet.injection import Attached
from lib_beyondfacial.unet.rows import LineRows, RowsPerSite
from tests.comparing import hooks_on
from tests.random_model import CONTEXT_DIM
from tests.sampling.conftest import LEVELS, LINE, SIZE, make_person, predict, run_level, step_at
from tests.sampling.host_double import CountingInjection, HostDouble


class LeftHalf:
    """A mask policy of the plan's own."""

    reads_attention = False

    def __init__(self, parameters):
        self.strength = parameters.mask_strength

    def compute_maps(self, predictions):
        return {}

    def compute_masks(self, position, predictions, attention):
        mask = torch.zeros_like(predictions.semantic[:, :1])
        mask[..., : mask.shape[-1] // 2] = self.strength
        return {name: mask for name in predictions.identity}


@pytest.mark.parametrize(
    ("changes", "sigma"), [({"mask_strength": 0.0}, 10), ({"start": 0.5}, 14.6), ({"stop": 0.25}, 5.0)]
)
def test_pass_does_not_act_outside_its_window_or_at_strength_zero(begin, changes, sigma):
    for sampling, acts in ((begin(**changes), False), (begin(), True)):
        sampling.acts(LEVELS[0])
        assert sampling.acts(sigma) is acts


def test_pass_does_not_act_at_line_weight_zero(begin):
    assert not begin(line={"weight": 0.0}).acts(14.6)


def test_window_counts_from_the_level_at_which_the_pass_starts(begin):
    """As in img2img: of the levels from 2.0 on, the first half is 2.0, 1.0 and 0.5."""
    sampling = begin(stop=0.5)
    assert [sigma for sigma in LEVELS[3:-1] if sampling.acts(sigma)] == [2.0, 1.0, 0.5]


def test_delta_is_mask_times_difference_and_zero_elsewhere(begin):
    sampling, predictions = begin(), predict()
    delta = run_level(sampling, 14.6, predictions)
    policy = AdaptiveMask(MethodParameters())
    mask = policy.compute_masks(0, predictions, policy.compute_maps(predictions))[LINE]
    assert mask.max() > 0.5
    assert torch.equal(sampling.report.masks[LINE], mask)
    assert torch.allclose(delta, mask * (predictions.identity[LINE] - predictions.semantic), atol=1e-6)
    assert not delta[(mask == 0).expand_as(delta)].any()
    assert not delta[..., :4].any()


def test_zero_mask_gives_exactly_zero(begin):
    even = predict()
    nothing = Predictions(even.semantic, even.identity, {LINE: predict().readings[LINE]}, even.uncond)
    for readings in nothing.readings[LINE].head:
        readings.fill_(0.3)
    assert not run_level(begin(), 14.6, nothing).any()


def test_whole_mask_is_single_line_injection(begin):
    predictions = predict()
    delta = run_level(begin(mask_mode="whole"), 14.6, predictions)
    assert torch.allclose(predictions.semantic + delta, predictions.identity[LINE], atol=1e-6)


def test_whole_mask_aligns_no_style(begin):
    aligned, plain = (run_level(begin(mask_mode="whole", style=style), 14.6, predict()) for style in (1.0, 0.0))
    assert torch.equal(aligned, plain)
    adaptive, without = (run_level(begin(style=style), 14.6, predict()) for style in (1.0, 0.0))
    assert not torch.equal(adaptive, without)


def test_rho_zero_gives_zeros_although_the_line_ran(begin):
    sampling = begin(rho=0.0)
    assert not run_level(sampling, 14.6, predict()).any()
    assert sampling.report.masks[LINE].max() > 0.5


def test_a_plan_brings_its_own_mask_policy(begin):
    sampling, predictions = begin(mask_policy=LeftHalf, mask_strength=0.5), predict()
    delta = run_level(sampling, 14.6, predictions)
    difference = predictions.identity[LINE] - predictions.semantic
    assert torch.allclose(delta[..., :6], 0.5 * difference[..., :6])
    assert not delta[..., 6:].any()
    before = hooks_on(sampling.host.unet())
    with sampling.watched(LineRows.one_each(1)) as reading:
        assert hooks_on(sampling.host.unet()) == before, "attention that nobody looks at is not read"
    assert reading.margins(HEAD) == []


def test_a_mask_policy_without_maps_refines_no_head(begin):
    sampling, predictions = begin(mask_policy=LeftHalf, refine_head=True), predict()
    for sigma in LEVELS:
        assert torch.isfinite(run_level(sampling, sigma, predictions)).all()
    assert sampling.refinement.heads is None
    assert "decode" not in sampling.host.order


def test_each_pass_has_a_mask_policy_of_its_own(begin):
    one, other = begin(), begin()
    run_level(one, 14.6, predict(1))
    assert torch.equal(run_level(other, 14.6, predict(2)), run_level(begin(), 14.6, predict(2)))


def test_stride_evaluates_every_kth_level(begin):
    sampling, predictions = begin(stride=3, mask_mode="whole"), predict()
    asked = []
    for sigma in LEVELS[:6]:
        sampling.acts(sigma)
        asked.append(bool(sampling.active_lines(sigma)))
        delta = run_level(sampling, sigma, predictions)
        assert torch.allclose(predictions.semantic + delta, predictions.identity[LINE], atol=1e-6)
    assert asked == [True, False, False, True, False, False]


def test_stride_reuses_the_last_difference(begin):
    sampling = begin(stride=2, mask_mode="whole")
    first = run_level(sampling, 14.6, predict(1))
    assert torch.equal(run_level(sampling, 10.0, predict(2)), first)
    assert not torch.equal(run_level(sampling, 5.0, predict(2)), first)


def test_stride_evaluates_again_where_the_sampler_goes_back_up(begin):
    sampling = begin(stride=4)
    run_level(sampling, 1.5, predict())
    assert not sampling.active_lines(2.0)
    assert not sampling.active_lines(1.0)
    sampling = begin(stride=4)
    run_level(sampling, 14.6, predict())
    run_level(sampling, 1.0, predict())
    assert sampling.active_lines(2.0)


def test_line_that_is_asked_between_two_levels_moves_no_stride(begin):
    """As Heun-like samplers do: half a rank is no rank."""
    sampling = begin(stride=2)
    run_level(sampling, 14.6, predict())
    assert not sampling.active_lines(12.0)
    assert not sampling.active_lines(10.0)
    assert sampling.active_lines(5.0)


def test_refiner_switch_ends_the_identity_with_one_warning(begin):
    sampling = begin()
    assert sampling.acts(14.6)
    sampling.host.key = "refiner"
    assert not sampling.acts(10.0)
    assert not sampling.acts(5.0)
    assert sampling.report.warnings == [REFINER]


def test_refiner_outside_the_window_is_nobodys_concern(begin):
    sampling = begin(stop=0.2)
    assert sampling.acts(14.6)
    sampling.host.key = "refiner"
    assert not sampling.acts(1.0)
    assert not sampling.report.warnings


@pytest.mark.parametrize("mode", ["whole", "adaptive"])
def test_nan_of_the_identity_line_is_refused(begin, mode):
    """Also where the mask is empty: a map of NaN would be an empty mask, and the picture plain without a word."""
    predictions = predict()
    predictions.identity[LINE][..., 0, 0] = float("nan")
    with pytest.raises(BeyondFacialError, match="NaN at noise level 14.6"):
        run_level(begin(mask_mode=mode), 14.6, predictions)


def test_unet_that_cannot_be_read_is_an_error(begin):
    """hosts/extensions.py has the sentence for it."""
    predictions = predict(readings=AttentionReadings())
    with pytest.raises(NoAttentionError):
        run_level(begin(), 14.6, predictions)


def test_infinite_delta_is_refused(begin):
    predictions = predict()
    predictions.semantic[:] = -3e38
    predictions.identity[LINE][:] = 3e38
    with pytest.raises(BeyondFacialError, match="NaN"):
        run_level(begin(mask_mode="whole"), 14.6, predictions)


def test_watched_reads_the_head_words_and_leaves_no_hook(begin):
    sampling = begin(batch=2)
    unet, text = sampling.host.unet(), torch.randn(3, 7, CONTEXT_DIM, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 4, *SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        plain = unet(x, torch.full((3,), 500.0), text)
        with sampling.watched(LineRows(slice(2), (0, 1), (1.0, 1.0))) as reading:
            watched = unet(x, torch.full((3,), 500.0), text)
    assert torch.equal(plain, watched)
    assert hooks_on(unet) == 0
    head = reading.margins(HEAD)
    assert head
    assert all(len(site) == 2 for site in head)
    assert reading.margins(LINE), "the prompt's person word is asked for the line"
    with pytest.raises(ZeroDivisionError), sampling.watched(LineRows.one_each(1)):
        raise ZeroDivisionError
    assert hooks_on(unet) == 0


def test_readings_are_margins_and_the_lines_energy(begin):
    sampling, energy = begin(), RowsPerSite({}, (0,), (1.0,))
    energy.add(3, torch.ones(1, 96))
    with sampling.watched(LineRows.one_each(1)) as reading:
        sampling.host.predict_x0(torch.zeros(1, 4, *SIZE), 1.0, None)
    readings = sampling.readings(reading, {LINE: [Attached(1, energy)]})[LINE]
    assert torch.equal(torch.stack(readings.energy), torch.ones(1, 1, 96))
    assert len(readings.head) == len(reading.margins(HEAD)) > 0


def test_line_that_reaches_no_site_is_an_error_with_a_message(begin):
    line = begin(host=HostDouble(injection=CountingInjection(fires=False))).plan.lines[0]
    with pytest.raises(BeyondFacialError, match="TensorRT"), line.attached([], LineRows.one_each(1)):
        pass


def test_line_weight_reaches_its_injections_and_they_come_off(begin):
    host = HostDouble()
    line = begin(host=host, line={"weight": 0.8}).plan.lines[0]
    with line.attached([], LineRows.one_each(2)):
        assert host.injection.is_attached
    assert host.injection.attachments == [(LineRows.one_each(2), 0.8)]
    assert not host.injection.is_attached


@pytest.fixture
def start():
    return 14.6 * torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(5))


def test_edit_start_changes_a_box_of_every_picture_in_place(begin, start):
    sampling, before = begin(batch=2, idap_strength=0.5), start.clone()
    assert sampling.edits_start()
    state = torch.get_rng_state()
    sampling.edit_start(start, 14.6)
    assert torch.equal(torch.get_rng_state(), state)
    changed = (start != before).any(1)
    for image in changed:
        assert 0 < int(image.sum()) <= image.numel() // 4
    assert float((start.mean((2, 3)) - before.mean((2, 3))).abs().max()) < 0.02 * 14.6
    assert sampling.host.order[-1] == "load_unet"
    assert sampling.report.identity_rows == 2, "one look-ahead"
    assert [(call.cond, call.is_crop) for call in sampling.host.calls] == [("first conds", False)]
    assert hooks_on(sampling.host.unet()) == 0


def test_edit_start_is_linear_in_the_samplers_scale(begin, start):
    """A start of twice the scale carries twice the edit: the noise below is the same."""
    edits = []
    for factor in (1.0, 2.0):
        scaled = factor * start
        begin(batch=2).edit_start(scaled, factor * 14.6)
        edits.append((scaled / factor) - start)
    assert edits[0].abs().max() > 0.1
    assert torch.allclose(edits[0], edits[1], atol=1e-4)


def test_edit_start_gives_each_picture_its_own_person(begin, start):
    persons = (make_person(1), make_person(2))
    unswapped, swapped, both = start.clone(), start.clone(), start.clone()
    begin(batch=2, line={"persons": persons}).edit_start(unswapped, 14.6)
    begin(batch=2, line={"persons": persons[::-1]}).edit_start(swapped, 14.6)
    begin(batch=2, line={"persons": persons[:1]}).edit_start(both, 14.6)
    assert torch.equal(unswapped[0], both[0])
    assert not torch.allclose(unswapped[1], both[1], atol=0.1)
    assert torch.equal(swapped[1], both[1])


@pytest.mark.parametrize("changes", [{"idap_strength": 0.0}, {"start": 0.99, "stop": 0.995}, {"stop": 0.0}])
def test_start_is_not_edited_at_strength_zero_or_without_a_level(begin, changes):
    assert not begin(**changes).edits_start()


def test_guidance_of_one_is_a_pass_without_cfg(begin):
    """delta does not depend on the guidance before a head is refined."""
    predictions = predict()
    passes = {cfg_scale: begin() for cfg_scale in (1.0, 7.0)}
    assert all(each.acts(14.6) for each in passes.values())
    assert torch.equal(*(each.delta(step_at(14.6, predictions, scale), predictions) for scale, each in passes.items()))
