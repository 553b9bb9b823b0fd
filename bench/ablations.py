"""Other papers' ways within the branch, each by one line of formula, for the table only; none is a setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from lib_beyondfacial.adapters.attention import AdapterInjection, DecoupledAttention
from lib_beyondfacial.method.head_details import DrawnHead
from lib_beyondfacial.sampling.plan import Plan
from lib_beyondfacial.unet.injection import Attached, attach_attention
from lib_beyondfacial.unet.rows import LineRows, RowsPerSite
from lib_beyondfacial.unet.sites import AttentionSite


class RescaledAttention(DecoupledAttention):
    """The branch has the text attention's norm at every query: h + s (|h| / |o|) o (UniID, arXiv 2512.03964)."""

    def __call__(self, site: int, query: Tensor, text_out: Tensor, images: Sequence[int]) -> Tensor:
        o = super().__call__(site, query, text_out, images)
        return o * (text_out.norm(dim=-1, keepdim=True) / o.norm(dim=-1, keepdim=True).clamp(min=1e-6))


class ActivationAttention(DecoupledAttention):
    """Keeps, beside its output, how much the identity activates each query: the largest q k over the tokens, before
    any softmax, averaged over the heads (after DynamicID's query-level activation gating, arXiv 2503.06505)."""

    activation: Tensor

    def __call__(self, site: int, query: Tensor, text_out: Tensor, images: Sequence[int]) -> Tensor:
        heads = query.unflatten(-1, (self.sites[site].heads, -1)).transpose(1, 2)
        keys = self._on_device(site, query)[0]
        keys = keys.expand(len(query), -1, -1, -1) if self.persons == 1 else keys[list(images)]
        logits = (heads @ keys.transpose(-1, -2)).float().amax(-1).mean(1) * heads.shape[-1] ** -0.5
        self.activation = logits - logits.amin(-1, keepdim=True)
        return super().__call__(site, query, text_out, images)


@dataclass
class Activations(RowsPerSite):
    """In place of the branch's energy: the activations, which it is told of at the same moment."""

    attention: ActivationAttention | None = None

    def add(self, site: int, values: Tensor) -> None:
        assert self.attention is not None
        super().add(site, self.attention.activation)


@dataclass(eq=False)
class OtherInjection:
    """The adapter's injection with another attention."""

    inner: AdapterInjection
    attention_class: type[DecoupledAttention]
    _attention: DecoupledAttention | None = None

    @property
    def device_bytes(self) -> int:
        return self.inner.device_bytes

    def check_fits(self, sites: Sequence[AttentionSite]) -> None:
        self.inner.check_fits(sites)

    @contextmanager
    def attached(self, sites: Sequence[AttentionSite], where: LineRows, weight: float) -> Iterator[Attached]:
        if self._attention is None:
            adapter, shapes = self.inner.adapter, [site.site for site in sites]
            self._attention = self.attention_class(adapter.spec, adapter.weights, self.inner.tokens, shapes)
        with attach_attention(self._attention, sites, where, weight) as attached:
            if isinstance(self._attention, ActivationAttention):
                attached.energy = Activations({}, where.images, where.weights, self._attention)
            yield attached


def with_attention(attention_class: type[DecoupledAttention], plan: Plan, boxes: object) -> Plan:
    """The plan whose lines use another attention."""
    lines = tuple(
        replace(line, injections=tuple(OtherInjection(each, attention_class) for each in line.injections))
        for line in plan.lines
    )
    return replace(plan, lines=lines)


@contextmanager
def no_details() -> Iterator[None]:
    """Within it, finished pictures stay as they are decoded."""
    original = DrawnHead.add_to

    def leave(self: DrawnHead, picture: Tensor) -> None:
        """The picture as it is."""

    DrawnHead.add_to = leave  # type: ignore[method-assign]
    try:
        yield
    finally:
        DrawnHead.add_to = original  # type: ignore[method-assign]


BRANCHES = {
    "branch_rescaled": partial(with_attention, RescaledAttention),
    "activation_map": partial(with_attention, ActivationAttention),
}
SCOPES = {"no_details": no_details}  # no other plan, but a context in which one is sampled
