"""The model as the family hands it out: `sd_model.forge_objects` with patchers that deep-copy their options."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from demo.sd1 import solvers


class Predictor(nn.Module):
    """The noise levels, and what the UNet's output is: noise ("epsilon") or velocity ("v_prediction")."""

    def __init__(self, sigmas: Tensor):
        super().__init__()
        self.register_buffer("sigmas", sigmas)
        self.prediction_type = "epsilon"

    def x0(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        if self.prediction_type == "v_prediction":
            return x / (sigma**2 + 1) - output * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * output


def block_of(name: str) -> tuple[str, int]:
    """The family's key of an attention: "input_blocks.4.1...." -> ("input", 4)."""
    kind, number = name.split(".")[:2]
    return kind.split("_")[0], 0 if kind == "middle_block" else int(number)


def replaced(attention: Any, patch: Callable, options: dict) -> Callable:
    """A forward of a cross-attention, with what a patch makes of its query, key and value."""

    def forward(x: Tensor, context: Tensor) -> Tensor:
        given = attention.to_q(x), attention.to_k(context), attention.to_v(context)
        return attention.to_out(patch(*given, {**options, "n_heads": attention.heads}))

    return forward


def without_options(module: nn.Module, args: tuple, kwargs: dict) -> tuple:
    """The UNet here does not know the options that the family's UNets are called with."""
    return args, {key: value for key, value in kwargs.items() if key != "transformer_options"}


class KModel(nn.Module):
    """x0 at a sigma. `schedule` is the name under which its noise levels are found; computes in `dtype`."""

    dtype = torch.float32

    def __init__(self, model: Any, schedule: str):
        super().__init__()
        self.schedule = schedule
        self.diffusion_model = model.model.diffusion_model
        if without_options not in self.diffusion_model._forward_pre_hooks.values():  # of another model with this UNet
            self.diffusion_model.register_forward_pre_hook(without_options, with_kwargs=True)
        self._denoiser = [solvers.CompVisDenoiser(model)]  # in a list: not a submodule
        setattr(self, schedule, Predictor(self._denoiser[0].sigmas))
        self.scale_factor = model.scale_factor

    def memory_required(self, input_shape: list[int]) -> int:
        return input_shape[0]

    def process_latent_in(self, latent: Tensor) -> Tensor:
        return latent * self.scale_factor

    def apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_crossattn: Tensor,
        c_concat: Tensor | None = None,
        control: Tensor | None = None,
        transformer_options: dict | None = None,
    ) -> Tensor:
        """Keys that it does not know are an error, as in the hosts' UNet.

        A patch on the middle's self-attention is asked with the call's lines (0 a cond, 1 an uncond) and gives how
        much of it is replaced by its values alone. A patch on a cross-attention gives what goes into its `to_out`.
        """
        sigma, options = t[:, None, None, None], {**(transformer_options or {}), "original_shape": x.shape}
        crossed = options.get("patches_replace", {}).get("attn2", {})
        patch = options.get("patches_replace", {}).get("attn1", {}).get(("middle", 0))
        share = 0.0 if patch is None else patch(options["cond_or_uncond"])

        def replace_some(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
            return torch.lerp(out, module.to_out(module.to_v(args[0])), share) if share else out

        attn1 = self.diffusion_model.middle_block[1].transformer_blocks[0].attn1
        hooks = [attn1.register_forward_hook(replace_some)]
        hooks += [
            self.diffusion_model.time_embed.register_forward_pre_hook(lambda m, args: args[0].to(m[0].weight.dtype))
        ]
        try:
            timestep, scaled = self._denoiser[0].sigma_to_t(t), (x / (sigma**2 + 1) ** 0.5).to(self.dtype)
            with ExitStack() as scope:
                for name, module in self.diffusion_model.named_modules():
                    if name.endswith("attn2") and block_of(name) in crossed:
                        patched = replaced(module, crossed[block_of(name)], options)
                        scope.enter_context(mock.patch.object(module, "forward", patched))
                context = c_crossattn.to(self.dtype)
                out = self.diffusion_model(scaled, timestep, context=context, transformer_options=options).float()
        finally:
            for hook in hooks:
                hook.remove()
        if control is not None:
            out = out + control
        return getattr(self, self.schedule).x0(out, x, sigma)


@dataclass(eq=False)
class UnetPatcher:
    model: Any
    model_options: dict = field(default_factory=lambda: {"transformer_options": {}})
    controlnet_linked_list: Any = None
    extra_concat_condition: Any = None
    extra_preserved_memory_during_sampling: int = 0
    extra_model_patchers_during_sampling: list = field(default_factory=list)

    def clone(self) -> UnetPatcher:
        return replace(
            self,
            model_options=copy.deepcopy(self.model_options),
            extra_model_patchers_during_sampling=list(self.extra_model_patchers_during_sampling),
        )

    def memory_required(self, input_shape: list[int]) -> int:
        return self.model.memory_required(input_shape)

    def add_extra_preserved_memory_during_sampling(self, memory_in_bytes: int) -> None:
        self.extra_preserved_memory_during_sampling += memory_in_bytes

    def add_conditioning_modifier(self, modifier: Any, ensure_uniqueness: bool = False) -> None:
        self.model_options.setdefault("conditioning_modifiers", []).append(modifier)

    def set_model_unet_function_wrapper(self, wrapper: Any) -> None:
        self.model_options["model_function_wrapper"] = wrapper

    def set_model_sampler_cfg_function(self, function: Any) -> None:
        self.model_options["sampler_cfg_function"] = function

    def set_model_sampler_post_cfg_function(self, function: Any, disable_cfg1_optimization: bool = False) -> None:
        self.model_options.setdefault("sampler_post_cfg_function", []).append(function)
        if disable_cfg1_optimization:
            self.model_options["disable_cfg1_optimization"] = True


class FirstStage(nn.Module):
    """The family's autoencoder network: its `encode` ends in a sample, drawn from torch's own generator."""

    def __init__(self, network: Any):
        super().__init__()
        self.encoder, self.quant_conv = network.encoder, network.quant_conv

    def encode(self, x: Tensor) -> Tensor:
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean + (0.5 * logvar).exp() * torch.randn(mean.shape)


class Vae:
    """Pictures (N, H, W, 3) in [0, 1] to unscaled latents."""

    def __init__(self, model: Any):
        self.first_stage_model, self.latent_channels = FirstStage(model.first_stage_model), 4

    def encode(self, pixels: Tensor) -> Tensor:
        return self.first_stage_model.encode(pixels.movedim(-1, 1) * 2 - 1)


@dataclass(eq=False)
class ForgeObjects:
    unet: UnetPatcher
    vae: Vae

    def shallow_copy(self) -> ForgeObjects:
        return replace(self)


class ForgeModel:
    """`shared.sd_model`: what A1111's scripts know, without `.model`."""

    is_sd1, is_sd2, is_sd3, is_sdxl, is_inpaint = True, False, False, False, False

    def __init__(self, model: Any, schedule: str):
        self._model = model
        unet = UnetPatcher(KModel(model, schedule).requires_grad_(False))
        self.forge_objects = ForgeObjects(unet, Vae(model))
        self.forge_objects_original = self.forge_objects.shallow_copy()
        self.forge_objects_after_applying_lora = self.forge_objects.shallow_copy()

    def reset(self) -> None:
        """Before every sampling the hosts forget what scripts registered."""
        self.forge_objects = self.forge_objects_after_applying_lora.shallow_copy()

    def __getattr__(self, name: str) -> Any:
        if name in ("model", "_model"):
            raise AttributeError(name)
        return getattr(self._model, name)

    @torch.no_grad()
    def decode_first_stage(self, z: Tensor) -> Tensor:
        return self._model.decode_first_stage(z)
