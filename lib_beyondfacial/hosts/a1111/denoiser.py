"""One noise level in A1111: the probe on the host's model call, then one `inner_model` call for each identity line.

delta is added to the host's cond rows in place, before its CFG.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import BeyondFacialError
from ...method.predictions import Predictions
from ...sampling.host import Step
from ...sampling.plan import IdentityLine
from ...unet.injection import Attached
from ...unet.probe import ProbeReading
from ...unet.rows import ALL_ROWS, LineRows, RowLedger
from ..run import ATTRIBUTE, Run
from ..types import DenoisedParams, Denoiser, DenoiserParams
from .and_prompts import add_to_cond_rows, compose
from .controlnet import find_network, fixes_rows, marked_like
from .host_calls import HostCall, recorded, repeat
from .identity_units import confined_params
from .model import A1111Host, batches_cond_uncond, cond_dict
from .neighbours import splits_rows


@dataclass(eq=False)
class HostStep:
    """State between the two callbacks of one level.

    where: the cond rows. scope: everything attached to the host's call. calls: the host's calls, if they must be
    repeated.
    """

    params: DenoiserParams
    sigma: float
    lines: tuple[IdentityLine, ...]
    where: LineRows
    ledger: RowLedger
    reading: ProbeReading = field(default_factory=ProbeReading)
    calls: list[HostCall] = field(default_factory=list)
    scope: ExitStack = field(default_factory=ExitStack)

    @property
    def batch(self) -> int:
        return self.params.text_uncond.shape[0]


def begin_step(run: Run, params: DenoiserParams) -> None:
    """Attach the probe to the host's next model call, if the identity acts at this level."""
    end_step(run)
    sampling, host = run.sampling, host_of(run)
    host.sampler = params.denoiser.sampler
    sigma = host.to_sigma(float(params.sigma.flatten()[0]))
    if not sampling.acts(sigma):
        return
    where = cond_rows(params)
    step = HostStep(params, sigma, sampling.active_lines(sigma), where, RowLedger(len(where.images)))
    run.step = step
    step.scope.enter_context(step.ledger.counting(sampling.sites))
    if step.lines:
        step.reading = step.scope.enter_context(sampling.watched(where, step.ledger))
        if must_repeat_calls(run):
            step.calls = step.scope.enter_context(recorded(params.denoiser.inner_model))
    params.denoiser.inner_model.__dict__[ATTRIBUTE] = run


def finish_step(run: Run, params: DenoisedParams) -> None:
    """Add the method's delta for this level to the host's cond rows (docs/method.md eq. 8)."""
    step, host, sampling = run.step, host_of(run), run.sampling
    step.scope.close()
    rows, batch = len(step.where.images), step.batch
    x = step.params.x
    semantic_rows = host.to_x0(params.x[:rows], x[:rows], step.sigma)
    # If the host computed no uncond row, its last rows are copies of the cond rows, and its guidance is 1.
    last_rows = host.to_x0(params.x[-batch:], x[-batch:], step.sigma)
    uncond = last_rows if step.ledger.rows_done > rows else None
    semantic = compose(semantic_rows, uncond, step.where)
    predictions = evaluate_lines(run, step, params, semantic, uncond) if step.lines else None
    cfg_scale = float(host.sampler.sampler_extra_args["cond_scale"])
    guidance = 1.0 if uncond is None else cfg_scale * cfg_plus_plus_factor(step.params.denoiser)
    denoised = last_rows.float() + guidance * (semantic.float() - last_rows.float())
    given = Step(step.sigma, cfg_scale, guidance, denoised, step.ledger.rows_done // batch)
    delta = sampling.delta(given, predictions)
    add_to_cond_rows(params.x, host.from_x0(delta, step.sigma), step.where)
    run.step = None


def end_step(run: Run) -> None:
    """Detach everything that a level has attached; called on every exit of the pass."""
    step = run.step
    if isinstance(step, HostStep):
        step.scope.close()
        step.params.denoiser.inner_model.__dict__.pop(ATTRIBUTE, None)


def evaluate_lines(
    run: Run, step: HostStep, params: DenoisedParams, semantic: Tensor, uncond: Tensor | None
) -> Predictions:
    """D_i of eq. 2 for every line, composed as the host composes D_s, and the attention readings."""
    identity: dict[str, Tensor] = {}
    attached: dict[str, list[Attached]] = {}
    for line in step.lines:
        x0, where, attached[line.name] = evaluate_line(run, step, params, line)
        identity[line.name] = compose(x0, uncond, where)
    return Predictions(semantic, identity, run.sampling.readings(step.reading, attached), uncond)


def evaluate_line(
    run: Run, step: HostStep, params: DenoisedParams, line: IdentityLine
) -> tuple[Tensor, LineRows, list[Attached]]:
    """x0 of the line's rows: the host's cond rows, or one row a picture if the line has its own prompt."""
    if step.calls:
        return repeat_line(run, step, params, line)
    host, given, where = host_of(run), step.params, step.where
    rows, cond = list(range(len(where.images))), given.text_cond
    line_cond = run.sampling.prompts.lines.get(line.name)
    if line_cond is not None:
        rows, cond = [where.parts_of(image)[0] for image in range(step.batch)], marked_like(line_cond, cond)
        where = LineRows.one_each(step.batch)
    x, sigma, image_cond = given.x[rows], given.sigma[rows], given.image_cond[rows]
    size = len(rows) if batches_cond_uncond() else step.batch
    outs, attached = [], []
    for at in range(0, len(rows), size):
        part = slice(at, at + size)
        part_rows = LineRows(ALL_ROWS, where.images[part], where.weights[part])
        with line.attached(run.sampling.sites, part_rows) as each:
            outs.append(params.inner_model(x[part], sigma[part], cond=cond_dict(cond, image_cond, part)))
        attached.append(each)
    run.report.note_rows(len(rows), x)
    return host.to_x0(torch.cat(outs), x, step.sigma), where, merge(attached)


def repeat_line(
    run: Run, step: HostStep, params: DenoisedParams, line: IdentityLine
) -> tuple[Tensor, LineRows, list[Attached]]:
    """Like evaluate_line, but in calls with the same rows as the host's calls."""
    line_cond, sampling = run.sampling.prompts.lines.get(line.name), run.sampling
    result = repeat(step.calls, params.inner_model, line, sampling.sites, step.where, line_cond)
    run.report.note_rows(result.rows, step.params.x)
    rows = [step.where.parts_of(image)[0] for image in result.where.images]  # AND parts of a picture share its x
    x0 = host_of(run).to_x0(result.prediction, step.params.x[rows], step.sigma)
    return x0, result.where, merge(result.attached)


def must_repeat_calls(run: Run) -> bool:
    """Whether an active extension needs every UNet call to have the rows of the host's calls."""
    host = host_of(run)
    network = find_network(host.p)
    return (network is not None and fixes_rows(network, confined_params(run.plan))) or splits_rows(host.unet())


def merge(attached: list[list[Attached]]) -> list[Attached]:
    """Join the results of several calls of one line."""
    merged = attached[0]
    for later in attached[1:]:
        for one, other in zip(merged, later, strict=True):
            one.fired += other.fired
            one.energy.extend(other.energy)
    return merged


def cond_rows(params: DenoiserParams) -> LineRows:
    """The cond rows: the picture of each, and the weight of its AND part."""
    rows, batch = params.x.shape[0] - params.text_uncond.shape[0], params.text_uncond.shape[0]
    cond = params.denoiser.sampler.sampler_extra_args["cond"]
    parts = [(image, float(part.weight)) for image, of_image in enumerate(cond.batch) for part in of_image]
    if len(cond.batch) != batch or len(parts) != rows:
        raise BeyondFacialError(
            f"BeyondFacial: another extension changed the number of cond rows ({rows} for {batch} images); "
            "switch off regional prompting or other row-adding extensions for this run."
        )
    return LineRows(slice(rows), tuple(image for image, _ in parts), tuple(weight for _, weight in parts))


def cfg_plus_plus_factor(denoiser: Denoiser) -> float:
    """CFG++ samplers scale the CFG down (the name's spelling is the host's)."""
    return float(getattr(denoiser, "cond_scale_miltiplier", 1.0))


def host_of(run: Run) -> A1111Host:
    assert isinstance(run.host, A1111Host), "begin_pass has made it"
    return run.host
