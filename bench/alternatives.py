"""What the table measures in place of the method's own parts: the relatives' decision, a true mask, parts taken out.

Each alternative is a context manager that puts functions into lib_beyondfacial's core for one batch; the product has
no switch for any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.replacing import replaced
from lib_beyondfacial.adapters.branch import IdentityBranch
from lib_beyondfacial.hosts import a1111, a1111_model, a1111_pass, a1111_start, words
from lib_beyondfacial.hosts.unet_sites import BranchHooks, enumerate_sites, hooked
from lib_beyondfacial.method import attention_maps as maps
from lib_beyondfacial.method import decision, engine
from lib_beyondfacial.method.engine import HEAD_SHARE, Lines, Readings, RunState
from lib_beyondfacial.method.prepend import prior_box

HeadBox = tuple[float, float, float, float]  # x0, y0, x1, y1 in shares of the picture


def smoothed_responses(lines: Lines) -> tuple[Tensor, Tensor]:
    """blur(mean_c |D_s - D_u|) and blur(mean_c |D_i - D_u|), (B, 1, H, W), over the whole picture."""
    if lines.uncond is None:
        raise RuntimeError("the relatives' decision needs an unconditional line")
    sigma = HEAD_SHARE * min(lines.semantic.shape[-2:]) / 5
    uncond = lines.uncond.float()
    semantic, identity = (
        decision.blur((line.float() - uncond).abs().mean(1, keepdim=True), sigma)
        for line in (lines.semantic, lines.identity)
    )
    return semantic, identity


def compute_argmax_mask(lines: Lines) -> Tensor:
    """1 where the spatial softmax of the identity line's smoothed response is the larger, as in MagicFusion's
    saliency-aware noise blending and Face-diffuser's saliency-adaptive noise fusion."""
    semantic, identity = (s.flatten(1).softmax(1).unflatten(1, s.shape[1:]) for s in smoothed_responses(lines))
    return (identity > semantic).float()


def saliency_only(boxes: list[HeadBox | None]) -> AbstractContextManager:
    """The relatives' way: a hard argmax over the picture, no attention, no memory."""
    return replaced(RunState, "_adaptive_mask", lambda self, level, lines, readings: compute_argmax_mask(lines))


def box_mask(boxes: list[HeadBox | None], height: int, width: int) -> Tensor:
    """By how much each latent pixel is covered by its image's box, (B, 1, H, W); without a box nothing is."""

    def cover(low: float, high: float, n: int) -> Tensor:
        edges = torch.arange(n, dtype=torch.float32)
        return (torch.clamp(edges + 1, max=high * n) - torch.clamp(edges, min=low * n)).clamp(0, 1)

    masks = [
        torch.zeros(height, width) if b is None else cover(b[1], b[3], height)[:, None] * cover(b[0], b[2], width)
        for b in boxes
    ]
    return torch.stack(masks)[:, None]


def oracle_mask(boxes: list[HeadBox | None]) -> AbstractContextManager:
    """The head's box in the plain picture, as the judge's detector sees it, is the mask at every level."""

    def mask(self: RunState, level: float, lines: Lines, readings: Readings) -> Tensor:
        return box_mask(boxes, *lines.semantic.shape[-2:]).to(lines.semantic.device)

    return replaced(RunState, "_adaptive_mask", mask)


@contextmanager
def no_attention(boxes: list[HeadBox | None]) -> Iterator[None]:
    """A = 1/2 everywhere and an open gate: the decision of eq. 6 by saliency alone, judged over the whole picture."""

    def region(self: RunState, readings: Readings, size: tuple[int, int]) -> Tensor | None:
        own = engine.compute_semantic_map(readings, size)
        return None if own is None else torch.full_like(own, 0.5)

    with replaced(RunState, "compute_region", region), replaced(RunState, "gate", lambda self: (0.0, 0.25)):
        yield


def no_decision(boxes: list[HeadBox | None]) -> AbstractContextManager:
    """M* = G: whatever attention's gate lets through is the identity's."""

    def gate_alone(a: Tensor, s_identity: Tensor, s_semantic: Any, gate: tuple[float, float]) -> Tensor:
        mask = decision.smoothstep(a, *gate)
        return torch.where(mask < decision.MASK_FLOOR, torch.zeros_like(mask), mask)

    return replaced(decision, "compute_decision", gate_alone)


def argmax_in_region(boxes: list[HeadBox | None]) -> AbstractContextManager:
    """The relatives' hard argmax, but inside attention's gate."""
    before = RunState._adaptive_mask

    def mask(self: RunState, level: float, lines: Lines, readings: Readings) -> Tensor:
        before(self, level, lines, readings)  # for self.region
        assert self.region is not None
        return decision.smoothstep(self.region, *self.gate()) * compute_argmax_mask(lines)

    return replaced(RunState, "_adaptive_mask", mask)


def saliency_over_picture(boxes: list[HeadBox | None]) -> AbstractContextManager:
    """Eq. 5 with the mean over the whole picture in place of the candidate region."""
    before = decision.compute_saliency

    def over_picture(response: Tensor, region: Tensor, sigma: float) -> Tensor:
        return before(response, torch.ones_like(region), sigma)

    return replaced(decision, "compute_saliency", over_picture)


def region_of(pick: Callable[[Readings, tuple[int, int]], Tensor | None]) -> Callable[[list], AbstractContextManager]:
    """A region of one map alone in place of eq. 3's mix."""

    def alternative(boxes: list[HeadBox | None]) -> AbstractContextManager:
        return replaced(RunState, "compute_region", lambda self, readings, size: pick(readings, size))

    return alternative


def average(responses: list[Tensor], size: tuple[int, int], relative: bool) -> Tensor | None:
    seen = maps.average_sites(responses, *size, relative=relative)
    return None if seen is None else maps.normalise(seen)


def prior_start(boxes: list[HeadBox | None]) -> AbstractContextManager:
    """IdAP's box from the prior, without looking ahead."""
    return replaced(a1111_start, "boxes_of", lambda readings, batch, size: [prior_box(*size)] * batch)


ROLLOUT_STEPS = 3


def rollout_latent(p: Any, run: Any, sampler: Any, start: Tensor) -> Tensor:
    """x0 as the identity line alone sees it after ROLLOUT_STEPS deterministic steps from the start: (B, C, H, W)."""
    from modules import prompt_parser

    if not hasattr(sampler, "get_timesteps"):
        raise RuntimeError("the rollout is written for the samplers that count in timesteps: --sampler DDIM")
    abar = p.sd_model.alphas_cumprod.to(start.device)
    adapter, sites = run.handle.plan.adapter, enumerate_sites(a1111_model.unet_of(p))
    branch = IdentityBranch(adapter.spec, adapter.weights, run.tokens, [site.site for site in sites])
    extra, inner_model = sampler.sampler_extra_args, sampler.model_wrap_cfg.inner_model
    cond, n = a1111_start.first_conds(extra["cond"]), len(start)
    uncond = prompt_parser.reconstruct_cond_batch(extra["uncond"], 0)
    ts = torch.linspace(len(abar) - 1, 0, 2 * ROLLOUT_STEPS + 1, device=start.device).round().long()
    x = start
    for t, s in zip(ts[:ROLLOUT_STEPS], ts[1:], strict=False):
        level = torch.full((n,), float(t), device=x.device)
        with torch.no_grad(), hooked(BranchHooks(sites, branch, run.settings.weight).attach()):
            eps = inner_model(x, level, cond=a1111_model.cond_dict(cond, extra["image_cond"], 0, n))
        with torch.no_grad():
            eps_uncond = inner_model(x, level, cond=a1111_model.cond_dict(uncond, extra["image_cond"], 0, n))
        eps = eps_uncond + p.cfg_scale * (eps - eps_uncond)
        denoised = (x - (1 - abar[t]).sqrt() * eps) / abar[t].sqrt()
        x = abar[s].sqrt() * denoised + (1 - abar[s]).sqrt() * eps
    return denoised


def rollout_start(boxes: list[HeadBox | None]) -> AbstractContextManager:
    """z of eq. 11 from a rollout of the identity line, cut to the box, in place of the reference's head."""

    def edit_start(p: Any, run: Any, sampler: Any) -> None:
        start = sampler.last_latent
        z = rollout_latent(p, run, sampler, start.clone())
        found = a1111_start.look_ahead(p, run, sampler)
        for i, box in enumerate(found):
            part = z[i, :, box.top : box.bottom, box.left : box.right]
            scale = a1111_start.find_scale(run.noise, start)
            a1111_start.edit_latent(
                start[i : i + 1], scale, [box], lambda box, part=part: part, run.settings.idap_strength
            )

    return replaced(a1111, "edit_start", edit_start)


BRANCH_GATE = (0.4, 0.65)  # of A_s: wider than the mask's own gate, so that the head may have an edge


def region_now(run: Any) -> Tensor | None:
    """A_s of this level: the probe has read the semantic line before the identity line is asked."""
    probe, size = run.current.probe, tuple(run.current.params.x.shape[-2:])
    return engine.compute_semantic_map(Readings(probe.result(words.HEAD), probe.result(words.PERSON)), size)


def region_before(run: Any) -> Tensor | None:
    """A of the last fused level, which is all that a host with both lines in one call could know."""
    return run.current.state.region


def branch_in(region_of_run: Callable[[Any], Tensor | None]) -> Callable[[list], AbstractContextManager]:
    """The identity's attention enters the identity line round the head alone, instead of everywhere."""

    @contextmanager
    def alternative(boxes: list[HeadBox | None]) -> Iterator[None]:
        gates: list[Tensor | None] = [None]
        evaluate, attend = a1111_pass.evaluate_identity, IdentityBranch.attend

        def evaluating(run: Any, *args: Any) -> Any:
            region = region_of_run(run)
            gates[0] = None if region is None else decision.smoothstep(region, *BRANCH_GATE)
            return evaluate(run, *args)

        def attending(self: IdentityBranch, site: int, query: Tensor) -> Tensor:
            attended, gate = attend(self, site, query), gates[0]
            grid = None if gate is None else maps.grid_of(query.shape[1], *gate.shape[-2:])
            if gate is None or grid is None:
                return attended
            inside = torch.nn.functional.adaptive_max_pool2d(gate, grid).flatten(1)[..., None]
            return attended * inside.to(query.dtype)

        with replaced(a1111_pass, "evaluate_identity", evaluating), replaced(IdentityBranch, "attend", attending):
            yield

    return alternative


def gate_at(centre: float) -> Callable[[list], AbstractContextManager]:
    """Another centre of the gate G of eq. 6."""
    return lambda boxes: replaced(engine, "GATE_CENTRE", centre)


ALTERNATIVES: dict[str, Callable[[list[HeadBox | None]], AbstractContextManager]] = {
    "saliency_only": saliency_only,
    "oracle_mask": oracle_mask,
    "no_attention": no_attention,
    "no_decision": no_decision,
    "argmax_in_region": argmax_in_region,
    "saliency_over_picture": saliency_over_picture,
    "region_head": region_of(engine.compute_semantic_map),
    "region_person": region_of(lambda readings, size: average(readings.person, size, relative=False)),
    "region_energy": region_of(lambda readings, size: average(readings.energy, size, relative=True)),
    "prior_start": prior_start,
    "rollout_start": rollout_start,
    "branch_in_region": branch_in(region_now),
    "branch_in_last_region": branch_in(region_before),
    "gate_0.5": gate_at(0.5),
    "gate_0.6": gate_at(0.6),
    "gate_0.8": gate_at(0.8),
}
