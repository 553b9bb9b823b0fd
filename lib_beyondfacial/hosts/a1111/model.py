"""A1111's loaded model for one sampling pass: UNet, text encoder, autoencoder, and the conversions to x0 and sigma."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ...sampling.host import Cond
from .. import model
from ..patches import hidden_hooks, unpatched
from ..run import full_like_batch
from ..types import Processing
from .controlnet import aligns_style, find_network, rows_kept, unmarked
from .neighbours import is_row_splitter, refuse_neutral_prompt

ZERO_TERMINAL = 1e-4  # alphas_cumprod at the last timestep; SD's own ends at 0.0047


def unet_of(p: Processing) -> nn.Module:
    return p.sd_model.model.diffusion_model


def refuse_unfit(p: Processing) -> None:
    """BeyondFacialError for models and prompts that the method does not support."""
    model.refuse_unfit(p)
    refuse_neutral_prompt(p)


def batches_cond_uncond() -> bool:
    from modules import shared

    return bool(shared.opts.batch_cond_uncond)


def cond_dict(cond: Tensor | Mapping[str, Tensor], image_cond: Tensor, rows: slice) -> dict[str, object]:
    """The cond argument of `inner_model` for some rows, built as in the host's denoiser."""
    if isinstance(cond, Mapping):
        part = type(cond)({key: value[rows] for key, value in cond.items()})
        return {**part, "c_concat": [image_cond[rows]]}
    return {"c_crossattn": [cond[rows]], "c_concat": [image_cond[rows]]}


class A1111Host(model.WebUIHost):
    """sampling.host.Host for one pass of A1111.

    Its timestep samplers (DDIM, PLMS, UniPC) predict eps, at a timestep, for latents of unit variance. They are
    converted here: levels by `to_sigma`, predictions by `to_x0`, delta by `from_x0`.
    """

    def __init__(self, p: Processing):
        super().__init__(p)
        self.predicts_eps = hasattr(p.sampler, "get_timesteps")
        alphas = p.sd_model.alphas_cumprod.float().cpu().numpy()
        self._log_sigmas = 0.5 * (np.log1p(-alphas) - np.log(alphas))

    def unet(self) -> nn.Module:
        return unet_of(self.p)

    def to_sigma(self, level: float) -> float:
        """Convert the sampler's level (a timestep or a sigma) to a sigma."""
        if not self.predicts_eps:
            return level
        return float(np.exp(np.interp(level, np.arange(len(self._log_sigmas)), self._log_sigmas)))

    def to_sigmas(self, levels: Tensor) -> list[float]:
        return [self.to_sigma(float(level)) for level in levels]

    def to_x0(self, prediction: Tensor, x: Tensor, sigma: float) -> Tensor:
        """Convert the sampler's prediction for its latents `x` to x0."""
        return (1 + sigma**2) ** 0.5 * x - sigma * prediction if self.predicts_eps else prediction

    def from_x0(self, delta: Tensor, sigma: float) -> Tensor:
        """Convert a difference of x0 to a difference of the sampler's predictions; zero stays zero."""
        return delta / -sigma if self.predicts_eps else delta

    def encode_prompts(self, texts: Sequence[str], size: tuple[int, int], is_negative: bool = False) -> Cond:
        return model.encode_prompts(self.p, texts, size, is_negative)

    def select_rows(self, cond: Cond, rows: Sequence[int]) -> Cond:
        encoded = cast("Tensor | Mapping[str, Tensor]", cond)
        chosen = list(rows)
        return {k: v[chosen] for k, v in encoded.items()} if isinstance(encoded, Mapping) else encoded[chosen]

    def join_conds(self, cond: Cond, uncond: Cond) -> Cond | None:
        """None by the option "batch cond/uncond", and for prompts of different lengths, as the host has it."""
        one, other = (c if isinstance(c, Mapping) else {"": c} for c in (cond, uncond))
        if not batches_cond_uncond() or any(one[key].shape[1:] != other[key].shape[1:] for key in one):
            return None
        joined = {key: torch.cat([one[key], other[key]]) for key in one}
        return joined if isinstance(cond, Mapping) else joined[""]

    def first_conds(self) -> Cond:
        return model.first_conds(self.sampler)

    def encode_images(self, pictures: Tensor) -> Tensor:
        """The scaled means of the posteriors. SD1.5's autoencoder returns the posterior, SDXL's a scaled sample of it,
        drawn on the CPU; so its moments are read where both compute them, and the random state stays as it was."""
        from modules import devices

        sd_model, moments = self.p.sd_model, []
        first = next(sd_model.first_stage_model.parameters())
        handle = sd_model.first_stage_model.quant_conv.register_forward_hook(lambda *call: moments.append(call[-1]))
        try:
            with torch.no_grad(), devices.without_autocast(), torch.random.fork_rng([]):
                sd_model.encode_first_stage(pictures.to(devices.device, first.dtype))
        finally:
            handle.remove()
        mean, _ = torch.cat(moments).float().chunk(2, dim=1)
        return sd_model.scale_factor * mean

    def decode_latents(self, latents: Tensor) -> Tensor:
        from modules import devices

        sd_model = self.p.sd_model
        first = next(sd_model.first_stage_model.parameters())
        with torch.no_grad(), devices.without_autocast():
            return sd_model.decode_first_stage(latents.to(first.dtype))

    def start_to_x(self, start: Tensor, sigma: float) -> Tensor:
        return start * (1 + sigma**2) ** 0.5 if self.predicts_eps else start

    def predict_x0(self, x: Tensor, sigma: float, cond: Cond, is_crop: bool = False) -> Tensor:
        """Call the model; crops bypass all patches and ControlNets, other calls leave no trace in these.

        Hooks that split the rows into halves are off, because these rows are no such halves.
        """
        network, image_cond = find_network(self.p), self.sampler.sampler_extra_args["image_cond"]
        is_past = is_crop or (network is not None and aligns_style(network))
        encoded = cast("Tensor | Mapping[str, Tensor]", unmarked(cond) if is_past else cond)
        if len(x) > len(image_cond):  # crops of several persons; `can_crop` has seen that it is the same everywhere
            image_cond = image_cond[:1].expand(len(x), *image_cond.shape[1:])
        given = cond_dict(encoded, image_cond, slice(len(x)))
        x = x.to(self.sampler.last_latent)
        scope = unpatched(self.unet()) if is_past else rows_kept(network, x.device)
        with scope, hidden_hooks(self.unet(), is_row_splitter):
            return self._call_model(x, sigma, given).float()

    def _call_model(self, x: Tensor, sigma: float, cond: dict[str, object]) -> Tensor:
        inner_model = self.sampler.model_wrap_cfg.inner_model
        if not self.predicts_eps:
            return inner_model(x, full_like_batch(x, sigma, x), cond=cond)
        timestep = float(np.abs(self._log_sigmas - np.log(sigma)).argmin())
        return x - sigma * inner_model(x / (1 + sigma**2) ** 0.5, full_like_batch(x, timestep, x), cond=cond)

    def can_crop(self) -> bool:
        return self.sampler.sampler_extra_args["image_cond"].shape[-1] == 1

    def load_unet(self) -> None:
        """A1111 moves its networks by itself."""

    def starts_from_noise(self) -> bool:
        return self.is_first_txt2img_pass() and float(self.p.sd_model.alphas_cumprod[-1]) > ZERO_TERMINAL
