"""A double of sd-webui-controlnet's face units: IP-Adapter FaceID, InstantID's attention, and its IdentityNet.

A unit puts one function onto every attn2's list `ipadapter_hacks`; the first one of a block replaces its `forward`
by another attention, which adds what the functions return. Keys and values are kept by layer alone, and viewed by the
rows of the present call, as there.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from demo.nets.unet import timestep_embedding
from tests.hosts.controlnet_script import CONTROLNET_CLASS

FACES = ("faceid", "instantid", "pulid", "plus_face", "pictures")  # kinds of units that act on the attention
IDENTITYNET = "identitynet"
TOKENS, CONTEXT = 2, 8  # of a face
all_hacks: dict[nn.Module, Callable] = {}
current_model: Any = None


def attention_with_hacks(self: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """The attention of blocks with units: torch's own, whatever the host has chosen."""
    context = x if context is None else context

    def split(t: Tensor) -> Tensor:
        return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    q, k, v = split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context))
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    for function in self.ipadapter_hacks:
        out = out + function(self, x, q)
    return self.to_out(out)


def hack_block(block: nn.Module, function: Callable) -> None:
    if not hasattr(block, "ipadapter_hacks"):
        block.ipadapter_hacks = []
    if not block.ipadapter_hacks:
        all_hacks[block] = block.forward
        block.forward = attention_with_hacks.__get__(block, type(block))
    block.ipadapter_hacks.append(function)


def clear_all() -> None:
    global current_model  # noqa: PLW0603  as there
    for block, forward in all_hacks.items():
        block.forward = forward
        block.ipadapter_hacks = []
    all_hacks.clear()
    current_model = None


class ImageEmbed(NamedTuple):
    cond_emb: Tensor
    uncond_emb: Tensor

    def eval(self, cond_mark: Tensor) -> Tensor:
        assert cond_mark.ndim == 4  # noqa: PLR2004
        mark = cond_mark[:, :, :, 0].to(self.cond_emb)
        return self.cond_emb * mark + self.uncond_emb * (1 - mark)


def embed_face(picture: str) -> ImageEmbed:
    """Tokens that depend on the picture's colours."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").resize((4, 4))) / 255
    projection = torch.randn(pixels.size, TOKENS * CONTEXT, generator=torch.Generator().manual_seed(1))
    face = torch.from_numpy(pixels).float().flatten() - 0.5
    cond = (face @ projection).reshape(1, TOKENS, CONTEXT)
    return ImageEmbed(cond, torch.zeros_like(cond))


def without_own_direction(out: Tensor, x: Tensor) -> Tensor:
    """PuLID's: less its part along the attention's own input, over the tokens."""
    return out - (out * x).sum(-2, keepdim=True) / (x * x).sum(-2, keepdim=True) * x


class PlugableIPAdapter(nn.Module):
    """One unit's model. weight: times its attention."""

    def __init__(self, kind: str, picture: str, weight: float):
        super().__init__()
        is_kind = {f"is_{name}": kind == name for name in ("faceid", "instantid", "pulid")}
        self.ipadapter = SimpleNamespace(**is_kind, is_portrait=False)
        self.image_emb, self.weight = embed_face(picture), weight
        self.p_start, self.p_end = 0.0, 1.0
        self.effective_region_mask: Tensor | None = None
        self.cache: dict[str, Tensor] = {}

    def hook(self, unet: nn.Module) -> None:
        global current_model  # noqa: PLW0603
        current_model, self.cache = unet, {}
        blocks = [module for name, module in unet.named_modules() if name.endswith("attn2")]
        for number, block in enumerate(blocks):
            hack_block(block, self.patch_forward(number))

    def call_ip(self, key: str, face: Tensor, width: int) -> Tensor:
        if key not in self.cache:
            generator = torch.Generator().manual_seed(sum(key.encode()))
            self.cache[key] = face @ torch.randn(CONTEXT, width, generator=generator)
        return self.cache[key]

    def patch_forward(self, number: int) -> Callable:
        @torch.no_grad()
        def forward(block: Any, x: Tensor, q: Tensor) -> Tensor | float:
            percent = getattr(current_model, "current_sampling_percent", 0.5)
            if not self.p_start <= percent <= self.p_end or self.weight == 0.0:
                return 0.0
            rows, width = len(x), x.shape[-1]
            face = self.image_emb.eval(current_model.cond_mark)
            k, v = (
                self.call_ip(f"{number}_to_{name}", face, width)
                .view(rows, -1, block.heads, width // block.heads)
                .transpose(1, 2)
                for name in "kv"
            )
            out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            out = self.weight * (without_own_direction(out, x) if self.ipadapter.is_pulid else out)
            return out if self.effective_region_mask is None else out * self.effective_region_mask

        return forward


def make_face_unit(kind: str, picture: str, weight: float) -> SimpleNamespace:
    """ControlNet's parameters of a unit of FACES."""
    return SimpleNamespace(
        kind=kind,
        control_model_type=SimpleNamespace(name="IPAdapter"),
        preprocessor={"name": "ip-adapter-auto"},
        control_model=PlugableIPAdapter(kind, picture, weight),
        control_context_override=None,
    )


class IdentityNet(SimpleNamespace):
    """Parameters of InstantID's ControlNet, which reads the face of the unit before it."""

    def disabled_by_hr_option(self, is_in_high_res_fix: bool) -> bool:
        return False

    def added(self, x: Tensor, cond_mark: Tensor) -> Tensor:
        """What it adds, standing in for residuals of the encoder."""
        face = self.control_context_override.eval(cond_mark).mean((1, 2))[:, None, None, None]
        return self.weight * (1 + face) * F.interpolate(self.used_hint_cond, x.shape[-2:])


class IdentityNetModel:
    """Its encoder: a copy of the UNet's, with the hint added to what it is shown. hints: of every call."""

    unet: Any = None

    def __init__(self) -> None:
        self.hints: list[Tensor] = []

    def __call__(self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor, y: Tensor | None) -> list[Tensor]:
        unet = self.unet
        attn2 = next(module for name, module in unet.named_modules() if name.endswith("attn2"))
        text = context.new_zeros(len(x), 1, attn2.to_k.in_features)
        self.hints.append(hint)
        emb = unet.time_embed(timestep_embedding(timesteps, unet.model_channels))
        h, residuals = x + F.interpolate(hint.mean(1, keepdim=True), x.shape[-2:]), []
        for block in (*unet.input_blocks, unet.middle_block):
            h = block(h, emb, text)
            residuals.append(h)
        return residuals


def make_identitynet(hint: Tensor, of_face: SimpleNamespace, weight: float) -> IdentityNet:
    """hint: (1, 4, h, w), standing in for the drawn landmarks."""
    return IdentityNet(
        kind=IDENTITYNET,
        control_model_type=SimpleNamespace(name="InstantID"),
        preprocessor={"name": "instant_id_face_keypoints"},
        control_model=IdentityNetModel(),
        control_context_override=of_face.control_model.image_emb,
        used_hint_cond=hint,
        weight=weight,
    )


EXTENSION = (
    """
import torch
from tests.hosts.controlnet_double import Hook, make_unit
from tests.hosts.ip_adapter_double import FACES, IDENTITYNET, make_face_unit, make_identitynet

hooks = []

def make(given, before):
    hint = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    if given["kind"] in FACES:
        return make_face_unit(given["kind"], given["image"], given.get("weight", 3.0))
    return make_identitynet(hint, before, 0.5) if given["kind"] == IDENTITYNET else make_unit(given["kind"], hint)
"""
    + CONTROLNET_CLASS
    + """
    def process(self, p, *args):
        self.postprocess(p, None)
        units = []
        for given in args:
            if isinstance(given, dict) and given.get("enabled"):
                units.append(make(given, units[-1] if units else None))
        if units:
            self.latest_network = Hook(p.sd_model.model.diffusion_model, units)
            self.latest_network.attach(p)
            hooks.append(self.latest_network)

    def postprocess(self, p, processed, *args):
        if self.latest_network is not None:
            self.latest_network.restore()
            self.latest_network = None
"""
)
