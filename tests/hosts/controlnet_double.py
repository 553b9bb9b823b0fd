"""A double of what sd-webui-controlnet does to A1111 (docs/compatibility.md), by what was observed of it.

It marks the conds that `process.sample` is handed with one token more (+1024 cond, -1024 uncond), and takes the mark
off in its own `forward` on the UNet's instance; a mean over all rows says whether a call is marked. A structural unit
adds to the input. An IP-Adapter unit patches each attn2's `forward` and keeps its keys by layer alone. A reference
unit shows its picture to the UNet first, with noise of torch's global numbers, and the attentions of the picture see
what the transformer blocks met then. Reference, colour-fix and inpainting units fix the batch at the first call.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.hosts.ip_adapter_double import FACES, IDENTITYNET, clear_all

MARK = 1024.0
KINDS = {
    "structural": ("ControlNet", "none"),
    "ip_adapter": ("IPAdapter", "ip-adapter-auto"),
    "reference": ("AttentionInjection", "reference_only"),
    "colorfix": ("ControlNet", "tile_colorfix"),
}
WEIGHT = {"structural": 0.05, "ip_adapter": 0.05, "reference": 1.0, "colorfix": 0.05}


def make_unit(kind: str, hint: Tensor) -> SimpleNamespace:
    """hint: (1, 4, h, w), the control picture's latent."""
    type_name, preprocessor = KINDS[kind]
    return SimpleNamespace(
        kind=kind,
        control_model_type=SimpleNamespace(name=type_name),
        preprocessor={"name": preprocessor},
        control_model=SimpleNamespace(cache={}, weight=WEIGHT[kind]),
        hint_cond=hint,
        used_hint_cond=None,
        used_hint_cond_latent=None,
        used_hint_inpaint_hijack=None,
    )


def mark_all(schedules: Any, mark: float) -> None:
    """Mark every cond of a (multi-)schedule in place, once: also where the host keeps it in a cache."""
    for parts in getattr(schedules, "batch", schedules):
        for part in parts if parts and hasattr(parts[0], "schedules") else [SimpleNamespace(schedules=parts)]:
            for i, entry in enumerate(part.schedules):
                if float((entry.cond[0].abs() - MARK).abs().mean()) > 1e-3:
                    cond = torch.cat([torch.full_like(entry.cond[:1], mark), entry.cond])
                    part.schedules[i] = entry._replace(cond=cond)


@dataclass(frozen=True)
class CallRecord:
    """One call of the patched forward: its rows, their marks (1 cond, 0 uncond; None: unmarked), its latent size."""

    rows: int
    marks: tuple[int, ...] | None
    size: tuple[int, int]


@dataclass(eq=False)
class Hook:
    """The extension's patch on one UNet for one request; `latest_network` of its script."""

    unet: nn.Module
    control_params: list[SimpleNamespace] | None
    calls: list[CallRecord] = field(default_factory=list)
    attention_auto_machine: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(name="Read"))
    cond_mark: Tensor | None = None
    writes: bool = False
    banks: dict[nn.Module, Tensor] = field(default_factory=dict)
    patched: list[tuple[nn.Module, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.original_forward, self.model = self.unet.forward, self.unet

    def attach(self, p: Any) -> None:
        before = p.sample

        def process_sample(*args: Any, **kwargs: Any) -> Any:
            mark_all(kwargs["conditioning"], MARK)
            mark_all(kwargs["unconditional_conditioning"], -MARK)
            return before(*args, **kwargs)

        p.sample = process_sample
        for net in self.units_of(IDENTITYNET):
            net.control_model.unet = copy.deepcopy(self.unet)
        for unit in self.units_of(*FACES):
            unit.control_model.hook(self.unet)
        self.patch(self.unet, "forward", self.forward)
        kinds = {unit.kind for unit in self.control_params or []}
        for name, module in self.unet.named_modules():
            if "reference" in kinds and hasattr(module, "attn1"):
                self.patch(module, "forward", self.block_forward(module))
            if "ip_adapter" in kinds and name.endswith("attn2"):
                self.patch(module, "forward", self.attention_forward(name, module))

    def units_of(self, *kinds: str) -> list[SimpleNamespace]:
        return [unit for unit in self.control_params or [] if unit.kind in kinds]

    def patch(self, module: nn.Module, name: str, function: Any) -> None:
        setattr(module, name, function)
        self.patched.append((module, name))

    def restore(self) -> None:
        """In postprocess, and before the next request: after an error nobody has come by."""
        for module, name in self.patched:
            module.__dict__.pop(name, None)
        self.patched.clear()
        clear_all()
        self.control_params = None

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        first = context[:, 0]
        is_marked = float((first.abs() - MARK).abs().mean()) < 1e-3
        self.cond_mark = (first.mean(-1) > 0).to(x) if is_marked else x.new_ones(len(x))
        self.unet.cond_mark = self.cond_mark[:, None, None, None]
        marks = tuple(int(mark) for mark in self.cond_mark) if is_marked else None
        self.calls.append(CallRecord(len(x), marks, (x.shape[-2], x.shape[-1])))
        if is_marked:
            from modules.processing import StableDiffusionProcessing as Job

            Job.cached_c[:] = Job.cached_uc[:] = [None, None]
            context = context[:, 1:]
        self.banks.clear()
        for net in self.units_of(IDENTITYNET):
            if not net.disabled_by_hr_option(False):
                x = x + net.added(x, self.unet.cond_mark)
        for unit in self.units_of(*KINDS):
            hint = F.interpolate(unit.hint_cond, x.shape[-2:])
            if unit.kind in ("reference", "colorfix") and unit.used_hint_cond_latent is None:
                unit.used_hint_cond_latent = hint.repeat(len(x), 1, 1, 1)
            if unit.kind in ("structural", "colorfix"):
                x = x + unit.control_model.weight * (hint if unit.kind == "structural" else unit.used_hint_cond_latent)
            if unit.kind == "reference":
                shown = unit.used_hint_cond_latent + torch.randn_like(unit.used_hint_cond_latent)
                self.writes = True
                try:
                    self.original_forward(shown, timesteps, context)
                finally:
                    self.writes = False
        return type(self.unet).forward(self.unet, x, timesteps, context)

    def block_forward(self, block: nn.Module) -> Any:
        def forward(x: Tensor, context: Tensor) -> Tensor:
            normed = block.norm1(x)
            if self.writes:
                self.banks[block] = normed
            bank = self.banks.get(block)
            reads = not self.writes and bank is not None
            x = block.attn1(normed, torch.cat([normed, bank], 1) if reads else None) + x  # type: ignore[list-item]
            x = block.attn2(block.norm2(x), context) + x
            return block.ff(block.norm3(x)) + x

        return forward

    def attention_forward(self, name: str, module: nn.Module) -> Any:
        """The text attention, and the unit's own behind it; uncond rows get its zero embedding."""

        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (module.heads, -1)).transpose(1, 2)

        def forward(x: Tensor, context: Tensor) -> Tensor:
            query, key, value = module.to_q(x), module.to_k(context), module.to_v(context)
            out = F.scaled_dot_product_attention(split(query), split(key), split(value))
            for unit in (unit for unit in self.control_params or [] if unit.kind == "ip_adapter"):
                cache = unit.control_model.cache
                if name not in cache:
                    generator = torch.Generator().manual_seed(len(name))
                    picture = torch.randn(2, query.shape[-1], generator=generator).to(query)
                    cache[name] = self.cond_mark[:, None, None] * picture  # type: ignore[index]
                reference_tokens = cache[name].expand(len(query), -1, -1) if len(cache[name]) == 1 else cache[name]
                out = out + unit.control_model.weight * F.scaled_dot_product_attention(
                    split(query), split(reference_tokens), split(reference_tokens)
                )
            return module.to_out(out.transpose(1, 2).flatten(2))

        return forward
