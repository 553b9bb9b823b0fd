"""Repeats the host's model calls of one level with an identity line in them.

Some extensions keep tensors that fit only the rows of the first model call, or split every call into halves. Only if
such an extension is active, the identity line is evaluated in calls like the host's: same number and order of rows,
same random numbers. The rows that are not of the line are computed and ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...sampling.plan import IdentityLine
from ...unet.injection import Attached
from ...unet.rows import LineRows
from ...unet.sites import AttentionSite
from .controlnet import marked_like


@dataclass(frozen=True, eq=False)
class HostCall:
    """One call of `inner_model`: its arguments, and torch's random state before it."""

    x: Tensor
    sigma: Tensor
    cond: dict[str, Any]
    random: Tensor
    random_cuda: Tensor | None

    @contextmanager
    def same_random(self) -> Iterator[None]:
        """Repeat the random numbers of this call inside the context; restore the random state afterwards."""
        device = self.x.device
        with torch.random.fork_rng([device] if self.random_cuda is not None else []):
            torch.set_rng_state(self.random)
            if self.random_cuda is not None:
                torch.cuda.set_rng_state(self.random_cuda, device)
            yield


@contextmanager
def recorded(inner_model: nn.Module) -> Iterator[list[HostCall]]:
    """Record every call of `inner_model` made inside the context."""
    calls: list[HostCall] = []

    def note(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        x, sigma = args
        on_cuda = torch.cuda.get_rng_state(x.device) if x.is_cuda else None
        calls.append(HostCall(x, sigma, kwargs["cond"], torch.get_rng_state(), on_cuda))

    handle = inner_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


@dataclass(frozen=True, eq=False)
class Repeated:
    """The result of an identity line in the repeated calls: the predictions of its rows, and their pictures and parts.

    rows: how many rows were computed.
    """

    prediction: Tensor
    where: LineRows
    attached: list[list[Attached]]
    rows: int


def repeat(
    calls: Sequence[HostCall],
    inner_model: nn.Module,
    line: IdentityLine,
    sites: Sequence[AttentionSite],
    where: LineRows,
    of_line: Any,
) -> Repeated:
    """Repeat the host's calls that have cond rows, with the line attached to these rows.

    Args:
        where: the cond rows, the first of all rows.
        of_line: the line's own cond, a row a picture, instead of the first AND part's; None where it has the host's.
    """
    wanted = list(range(len(where.images)))
    if of_line is not None:
        wanted = [where.parts_of(image)[0] for image in range(where.batch)]
    outs, attached, images, weights, at, rows = [], [], [], [], 0, 0
    for call in calls:
        rows_in_call = [row for row in wanted if at <= row < at + len(call.x)]
        local = [row - at for row in rows_in_call]
        at += len(call.x)
        if not rows_in_call:
            continue
        of_images = tuple(where.images[row] for row in rows_in_call)
        of_parts = tuple(where.weights[row] if of_line is None else 1.0 for row in rows_in_call)
        cond = call.cond if of_line is None else with_line_rows(call.cond, local, of_line, of_images)
        with call.same_random(), line.attached(sites, LineRows(local, of_images, of_parts)) as each:
            out = inner_model(call.x, call.sigma, cond=cond)
        outs.append(out[local])
        attached.append(each)
        images.extend(of_images)
        weights.extend(of_parts)
        rows += len(call.x)
    return Repeated(torch.cat(outs), LineRows(slice(len(images)), tuple(images), tuple(weights)), attached, rows)


def with_line_rows(cond: dict[str, Any], local: Sequence[int], of_line: Any, images: Sequence[int]) -> dict[str, Any]:
    """The host's cond argument with the line's own prompts in some rows, marked like the host's conds."""
    rows = list(local)
    if "crossattn" in cond:  # SDXL
        given = {"crossattn": cond["crossattn"], "vector": cond["vector"].clone()}
        of_line = marked_like(of_line, given)
        given["vector"][rows] = of_line["vector"][list(images)].to(given["vector"])
        return {**cond, **given, "crossattn": replaced(given["crossattn"], rows, of_line["crossattn"][list(images)])}
    (context,) = cond["c_crossattn"]
    return {**cond, "c_crossattn": [replaced(context, rows, marked_like(of_line, context)[list(images)])]}


def replaced(context: Tensor, rows: Sequence[int], of_line: Tensor) -> Tensor:
    """Replace some rows; the shorter prompt is padded with its last token, as the host does with AND parts."""
    length = max(context.shape[1], of_line.shape[1])
    whole = fill(context, length).clone()
    whole[list(rows)] = fill(of_line, length).to(whole)
    return whole


def fill(context: Tensor, length: int) -> Tensor:
    return torch.cat([context, context[:, -1:].expand(-1, length - context.shape[1], -1)], dim=1)
