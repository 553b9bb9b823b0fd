"""The family's built-in ControlNet in small: IP-Adapter and structural units, as a script of the request.

All IP-Adapter units share one patch at each cross-attention, with an entry in each of nine lists.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.hosts.controlnet_script import CONTROLNET_CLASS
from tests.hosts.ip_adapter_double import CONTEXT, embed_face

from .patcher import block_of


class CrossAttentionPatch:
    """patch(q, k, v, options) -> (rows, n, h): the text's attention, and each entry's behind it."""

    def __init__(self, number: int, **entry: Any):
        self.number = number
        self.weights, self.ipadapters, self.conds, self.unconds = [], [], [], []  # type: ignore[var-annotated]
        self.weight_type, self.masks, self.sigma_start, self.sigma_end = [], [], [], []  # type: ignore[var-annotated]
        self.unfold_batch: list[bool] = []
        self.set_new_condition(**entry)

    def set_new_condition(self, weight: float, face: Any, start: float, end: float) -> None:
        for values, value in (
            (self.weights, weight),
            (self.ipadapters, face),
            (self.conds, face.cond_emb),
            (self.unconds, face.uncond_emb),
            (self.weight_type, "original"),
            (self.masks, None),
            (self.sigma_start, start),
            (self.sigma_end, end),
            (self.unfold_batch, False),
        ):
            values.append(value)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
        heads, sigma = options["n_heads"], float(options["sigmas"][0])
        lines = options["cond_or_uncond"]
        out = attend(q, k, v, heads)
        _, _, _height, _width = options["original_shape"]
        for weight, cond, uncond, start, end in zip(
            self.weights, self.conds, self.unconds, self.sigma_start, self.sigma_end, strict=True
        ):
            if end <= sigma <= start:
                face = torch.cat([(cond, uncond)[line].repeat(len(q) // len(lines), 1, 1) for line in lines])
                keys, values = (face @ weights_of(f"{self.number}_{name}", q.shape[-1]) for name in "kv")
                out = out + weight * attend(q, keys, values, heads)
        return out


def weights_of(key: str, width: int) -> Tensor:
    return torch.randn(CONTEXT, width, generator=torch.Generator().manual_seed(sum(key.encode())))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class IPAdapterPatcher:
    """A unit's model, with the names of its weights, by which its kind is known."""

    def __init__(self, kind: str, image: str, weight: float, end: float):
        lora = {"0.to_q_lora.down.weight": None} if kind == "faceid" else {}
        self.ip_adapter: dict[str, dict] = {"image_proj": {}, "ip_adapter": lora}
        self.image, self.weight, self.end, self.is_instantid = image, weight, end, kind == "instantid"

    def process_before_every_sampling(self, p: Any) -> None:
        unet, face = p.sd_model.forge_objects.unet.clone(), embed_face(self.image)
        options = unet.model_options["transformer_options"]
        if self.is_instantid:
            options["controlnet_conditioning_modifiers"] = [lambda *given: given]
        patches = options.setdefault("patches_replace", {}).setdefault("attn2", {})
        names = [name for name, _ in unet.model.diffusion_model.named_modules() if name.endswith("attn2")]
        for number, name in enumerate(sorted(names, key=lambda name: "iom".index(name[0]))):
            entry = {"weight": self.weight, "face": face, "start": 1e9, "end": self.end}
            if block_of(name) in patches:
                patches[block_of(name)].set_new_condition(**entry)
            else:
                patches[block_of(name)] = CrossAttentionPatch(number, **entry)
        p.sd_model.forge_objects.unet = unet


class Control:
    """A structural ControlNet: adds its picture to what the UNet predicts."""

    def __init__(self) -> None:
        self.hint = 0.1 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))

    def get_control(self, x: Tensor, t: Tensor, cond: dict, batched_number: int) -> Tensor:
        return F.interpolate(self.hint, x.shape[-2:]).expand(x.shape)


class ControlNetPatcher:
    def __init__(self) -> None:
        self.control = Control()

    def process_before_every_sampling(self, p: Any) -> None:
        unet = p.sd_model.forge_objects.unet.clone()
        unet.controlnet_linked_list = self.control
        p.sd_model.forge_objects.unet = unet


class PhotomakerPatcher:
    """reForge's: it has no attention of its own, and rewrites the conds of the whole picture."""

    def process_before_every_sampling(self, p: Any) -> None:
        pass


def make_params(unit: dict) -> SimpleNamespace:
    if unit["kind"] == "structural":
        return SimpleNamespace(model=ControlNetPatcher())
    if unit["kind"] == "photomaker":
        return SimpleNamespace(model=PhotomakerPatcher())
    end = unit.get("end", 0.0)
    return SimpleNamespace(model=IPAdapterPatcher(unit["kind"], unit["image"], unit.get("weight", 3.0), end))


EXTENSION = (
    '''
from tests.forge_double.ip_adapter import make_params

def units_on(args):
    return [unit for unit in args if isinstance(unit, dict) and unit.get("enabled", True)]

def skips(p, unit):
    """The unit's own hires option."""
    is_hires = getattr(p, "is_hr_pass", False)
    skipping = "Low res only" if is_hires else "High res only"
    return getattr(p, "enable_hr", False) and unit.get("hr_option", "Both") == skipping
'''
    + CONTROLNET_CLASS
    + """
    def process(self, p, *args):
        self.current_params = {n: make_params(unit) for n, unit in enumerate(units_on(args))}

    def process_before_every_sampling(self, p, *args, **kwargs):
        for n, unit in enumerate(units_on(args)):
            if not skips(p, unit):
                self.current_params[n].model.process_before_every_sampling(p)

    def postprocess(self, p, processed, *args):
        self.current_params = {}
"""
)
