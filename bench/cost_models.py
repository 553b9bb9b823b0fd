"""Models to measure costs on: Dollhouse as it is, or random weights of a real model's size, and who is drawn in them.

Random weights draw no face, so there the attention and the detector's box are scripted; all else is the product's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.device import choose_device, move_host
from bench.painter import SCRIPT, WEIGHTS, load_person
from bench.pairs import make_pairs
from demo.nets.unet import UNetModel
from demo.sd1.model import FirstStage
from lib_beyondfacial.adapters.attention import AdapterInjection
from lib_beyondfacial.adapters.checkpoints import AdapterSpec
from lib_beyondfacial.adapters.files import Weights
from lib_beyondfacial.adapters.registry import LoadedAdapter
from lib_beyondfacial.faces.aggregate import Identity
from lib_beyondfacial.faces.face import Face
from lib_beyondfacial.method.mask import AdaptiveMask, MaskPolicy, choose_mask_policy
from lib_beyondfacial.method.predictions import AttentionReadings
from lib_beyondfacial.sampling.plan import PERSON, IdentityLine, Plan, make_line
from lib_beyondfacial.settings import Settings
from lib_beyondfacial.settings.parameters import MethodParameters
from lib_beyondfacial.unet.sites import enumerate_sites

TOKENS, LORA_RANK = 4, 128  # of an IP-Adapter FaceID file
HEAD = (0.43, 0.10, 0.57, 0.21)  # the scripted head: x0, y0, x1, y1 in shares of the picture; of a full shot
BLOB = 0.9  # the scripted attention in the head
LEAVES = ("to_q", "to_k", "to_v", "to_out")


@dataclass(frozen=True)
class Size:
    """A model's size and its pictures. unet, vae: of demo.nets; None: Dollhouse's own weights.

    refine_size: px at which heads are redrawn; 0: the model's native side. on_gpu: measured on a GPU, in bf16.
    """

    name: str
    width: int
    height: int
    native_side: int
    unet: Mapping[str, Any] | None = None
    vae: Mapping[str, Any] = field(default_factory=dict)
    refine_size: int = 0
    on_gpu: bool = False


SD15_UNET = {"model_channels": 320, "channel_mult": (1, 2, 4, 4), "num_res_blocks": 2, "num_heads": 8}
SD15_UNET |= {"attention_resolutions": (1, 2, 4), "context_dim": 768}
SDXL_UNET = {"model_channels": 320, "channel_mult": (1, 2, 4), "num_res_blocks": 2, "attention_resolutions": (2, 4)}
SDXL_UNET |= {"context_dim": 2048, "transformer_depth": (1, 2, 10), "num_head_channels": 64}
SD15_VAE = {"ch": 128, "ch_mult": (1, 2, 4, 4), "num_res_blocks": 2}
SIZES = {
    "dollhouse": Size("dollhouse", 192, 192, 192),
    "sd15": Size("sd15", 512, 768, 512, SD15_UNET, SD15_VAE),
    "sd15_small": Size("sd15_small", 256, 384, 512, SD15_UNET, SD15_VAE, refine_size=256),
    "sd15_gpu": Size("sd15_gpu", 512, 768, 512, SD15_UNET, SD15_VAE, on_gpu=True),
    "sdxl": Size("sdxl", 832, 1216, 1024, SDXL_UNET, SD15_VAE, on_gpu=True),
}


class ScriptedMask(AdaptiveMask):
    """The adaptive mask, which computes its maps and then takes the scripted head for them."""

    def compute_map(self, readings: AttentionReadings, size: tuple[int, int]) -> Tensor:
        a = torch.zeros_like(super().compute_map(readings, size))
        x0, y0, x1, y1 = HEAD
        a[..., round(y0 * size[0]) : round(y1 * size[0]), round(x0 * size[1]) : round(x1 * size[1])] = BLOB
        return a


def find_scripted_face(image: np.ndarray) -> list[Face]:
    """The one face of a generated picture; it stays equally like the person, so the redrawn head is kept."""
    height, width = image.shape[:2]
    box = np.array(HEAD, np.float32) * np.array([width, height, width, height], np.float32)
    return [Face(box, np.zeros((5, 2), np.float32), 1.0, np.ones(512, np.float32))]


class Model:
    """A booted host with a model of one size; one at a time in a process. make_plan: settings -> a request's plan."""

    def __init__(self, size: Size):
        from demo.miniwebui.host import boot

        self.size, self.host = size, boot(models_dir=WEIGHTS / "models", extensions=[SCRIPT])
        self.device = choose_device("cuda" if size.on_gpu else "cpu")
        if size.unet is not None:
            self.adapter = replace_networks(size, self.device)
        if size.on_gpu:
            for network in (self.unet, *self.vae.children()):
                compute_in(network, torch.bfloat16)
            move_host(self.device)

    @property
    def unet(self) -> torch.nn.Module:
        return loaded_model().model.diffusion_model

    @property
    def vae(self) -> Any:
        return loaded_model().first_stage_model

    def make_plan(self, values: Mapping[str, Any], person: IdentityLine | None = None) -> Plan:
        settings = Settings.from_dict({"refine_size": self.size.refine_size, **values})
        if self.size.unet is None:
            loaded = load_person(make_pairs(1)[0].references())
            line = make_line(settings, (loaded.identity,), loaded.adapter, [loaded.features])
            return Plan(settings, (line,), loaded.analyser.find_in_scene)
        line = IdentityLine(PERSON, (nobody(),), (AdapterInjection(self.adapter, draw_tokens(self.size)),))
        return Plan(settings, (replace(line, weight=settings.weight),), find_scripted_face, scripted_policy)


@contextmanager
def absent() -> Iterator[None]:
    """The host without any extension, as far as requests meet it."""
    from modules import script_callbacks, scripts

    with ExitStack() as back:
        for listed in (scripts.scripts_txt2img.alwayson_scripts, *script_callbacks.callback_map.values()):
            back.callback(listed.extend, listed.copy())
            listed.clear()
        yield


def loaded_model() -> Any:
    from modules import shared

    return shared.sd_model


def scripted_policy(parameters: MethodParameters) -> MaskPolicy:
    """The policy that `mask_mode` names, with a scripted head."""
    return ScriptedMask(parameters) if parameters.mask_mode == "adaptive" else choose_mask_policy(parameters)


def compute_in(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """The network's weights and latents or pictures in a type, as a host has it; what comes in and out is fp32."""

    def enter(module: torch.nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, Any]:
        def cast(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) and value.ndim > 1 else value

        return tuple(map(cast, args)), {name: cast(value) for name, value in given.items()}

    network.to(dtype)
    network.register_forward_pre_hook(enter, with_kwargs=True)
    network.register_forward_hook(lambda module, args, out: out.float())


def replace_networks(size: Size, device: torch.device) -> LoadedAdapter:
    """Put random networks of this size into the loaded model; returns an adapter with a LoRA that fits them."""
    model = loaded_model()
    with torch.random.fork_rng(), device:
        torch.manual_seed(0)
        model.model.diffusion_model = UNetModel(**size.unet or {})
        model.first_stage_model = FirstStage(**size.vae)
    model.eval().requires_grad_(False)
    model.image_size = size.native_side // 8
    wanted, encode = int((size.unet or {})["context_dim"]), model.get_learned_conditioning

    def widened(texts: Any) -> Tensor:
        encoded = encode(texts)
        return encoded.repeat(1, 1, -(-wanted // encoded.shape[-1]))[..., :wanted]

    model.get_learned_conditioning = widened
    return random_adapter(model.model.diffusion_model, wanted)


def random_adapter(unet: torch.nn.Module, context_dim: int) -> LoadedAdapter:
    """An IP-Adapter FaceID of random weights, with its LoRA for every attention."""
    random, ip, widths = torch.Generator().manual_seed(1), {}, []

    def draw(*shape: int) -> Tensor:
        return 0.02 * torch.randn(shape, generator=random)

    for n, site in enumerate(enumerate_sites(unet)):
        width = site.site.width
        widths.append(width)
        for leaf in ("to_k_ip", "to_v_ip"):
            ip[f"{2 * n + 1}.{leaf}.weight"] = draw(width, context_dim)
        for number, inputs in ((2 * n, width), (2 * n + 1, context_dim)):
            for leaf in LEAVES:
                given = inputs if leaf in ("to_k", "to_v") else width
                ip[f"{number}.{leaf}_lora.down.weight"] = draw(LORA_RANK, given)
                ip[f"{number}.{leaf}_lora.up.weight"] = draw(width, LORA_RANK)
    spec = AdapterSpec("faceid", TOKENS, context_dim, tuple(widths), has_lora=True)
    return LoadedAdapter("random", Path("random"), spec, Weights({}, ip), "0" * 10)


def draw_tokens(size: Size) -> Tensor:
    return torch.randn(1, TOKENS, (size.unet or {})["context_dim"], generator=torch.Generator().manual_seed(2))


def nobody() -> Identity:
    """The person of random weights: they cannot be told apart."""
    unit = np.ones(512, np.float32) / 512**0.5
    ones = np.ones(1, np.float32)
    crop = np.full((256, 256, 3), 127, np.uint8)
    return Identity(unit, 1.0, crop, ("random",), (), "", unit[None], ones, ones)
