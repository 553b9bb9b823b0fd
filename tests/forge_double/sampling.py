"""The family's model call: modifiers, batches of the host's own making, the wrapper, guidance, what follows it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Kind(NamedTuple):
    """In what the family's hosts differ where a seam can see it."""

    name: str
    backend: bool = False  # package names: `backend.*`, else `ldm_patched.*`
    tells_scale: bool = False  # cond_scale among the post-guidance arguments
    pre_after: bool = False  # pre-guidance functions are called after the model, with one dict
    first_step_plain: bool = False  # the first step runs at CFG 1
    hires_twice: bool = False  # process_before_every_sampling comes twice before a hires pass
    merges_options: bool = False  # each step has the patcher's options merged into a new dict, its lists concatenated
    refines_by_sigma: bool = False  # the refiner's switch is a noise level, else a step


KINDS = {
    kind.name: kind
    for kind in (
        Kind("forge", backend=True, hires_twice=True),
        Kind("reforge", tells_scale=True, pre_after=True, hires_twice=True),
        Kind("classic", first_step_plain=True),
        Kind("neo", backend=True, tells_scale=True, merges_options=True, refines_by_sigma=True),
    )
}
free_rows = [10**9]  # how many rows the UNet has memory for


class Waiting(NamedTuple):
    conditions: dict[str, Any]
    strength: float
    control: Any
    line: int  # 0: cond, 1: uncond


def can_join(one: Waiting, other: Waiting) -> bool:
    if one.control is not other.control or one.conditions.keys() != other.conditions.keys():
        return False
    return all(value.can_concat(other.conditions[key]) for key, value in one.conditions.items())


def calc_cond_uncond_batch(
    model: Any, cond: list, uncond: list | None, x: Tensor, timestep: Tensor, model_options: dict
) -> tuple[Tensor, Tensor]:
    """The strength-weighted mean of each line's predictions; a line without entries is zero."""
    waiting = [
        Waiting(
            {
                k: v.process_cond(batch_size=len(x), device=x.device, area=None)
                for k, v in entry["model_conds"].items()
            },
            entry.get("strength", 1.0),
            entry.get("control"),
            line,
        )
        for line, entries in enumerate((cond, uncond or []))
        for entry in entries
    ]
    sums, weights = [torch.zeros_like(x), torch.zeros_like(x)], [1e-37, 1e-37]
    while waiting:
        together = [i for i, other in enumerate(waiting) if can_join(waiting[0], other)][::-1]
        parts = 1
        while parts < len(together) and model.memory_required([len(together) // parts * len(x)]) > free_rows[0]:
            parts += 1
        taken = [waiting.pop(i) for i in together[: max(1, len(together) // parts)]]
        for entry, out in zip(taken, run_batch(model, taken, x, timestep, model_options), strict=True):
            sums[entry.line] = sums[entry.line] + out * entry.strength
            weights[entry.line] += entry.strength
    return sums[0] / weights[0], sums[1] / weights[1]


def run_batch(model: Any, taken: list[Waiting], x: Tensor, timestep: Tensor, model_options: dict) -> list[Tensor]:
    lines = [entry.line for entry in taken]
    rows, sigma = torch.cat([x] * len(taken)), torch.cat([timestep] * len(taken))
    keys = taken[0].conditions
    c = {key: keys[key].concat([entry.conditions[key] for entry in taken[1:]]) for key in keys}
    options = {**model_options.get("transformer_options", {}), "cond_or_uncond": list(lines), "sigmas": timestep}
    c["transformer_options"] = options
    if taken[0].control is not None:
        c["control"] = taken[0].control.get_control(rows, sigma, dict(c), len(taken))
    wrapper = model_options.get("model_function_wrapper")
    if wrapper is None:
        out = model.apply_model(rows, sigma, **c)
    else:
        out = wrapper(model.apply_model, {"input": rows, "timestep": sigma, "c": c, "cond_or_uncond": lines})
    return list(out.chunk(len(taken)))


def guide(
    kind: Kind, model: Any, x: Tensor, sigma: Tensor, uncond: list | None, cond: list, scale: float, options: dict
) -> Tensor:
    """From conds to the guided x0."""
    strength = sum(entry.get("strength", 1.0) for entry in cond)
    is_plain = math.isclose(scale, 1.0) and not options.get("disable_cfg1_optimization")
    negative = None if is_plain else uncond
    if not kind.pre_after:
        for function in options.get("sampler_pre_cfg_function", []):
            model, cond, negative, x, sigma, options = function(model, cond, negative, x, sigma, options)
    d_cond, d_uncond = calc_cond_uncond_batch(model, cond, negative, x, sigma, options)
    if kind.pre_after:
        for function in options.get("sampler_pre_cfg_function", []):
            args = {"conds": [cond, negative], "conds_out": [d_cond, d_uncond], "cond_scale": scale, "input": x}
            d_cond, d_uncond = function(args | {"sigma": sigma, "model": model, "model_options": options})
    shown = {"model": model, "model_options": options, "input": x, "sigma": sigma}
    shown |= {"cond_denoised": d_cond, "uncond_denoised": d_uncond}
    if "sampler_cfg_function" in options:
        args = {**shown, "cond": x - d_cond, "uncond": x - d_uncond, "cond_scale": scale, "timestep": sigma}
        denoised = x - options["sampler_cfg_function"](args)
    else:
        denoised = d_uncond + (d_cond - d_uncond) * scale * (1.0 if math.isclose(strength, 1.0) else strength)
    for function in options.get("sampler_post_cfg_function", []):
        args = {**shown, "denoised": denoised, "cond": cond, "uncond": uncond}
        denoised = function({**args, "cond_scale": scale} if kind.tells_scale else args)
    return denoised


def merged(base: dict, extra: dict) -> dict:
    """Neo's options of one step: dictionaries merged, lists one behind the other, all else as it is in the later."""
    result = dict(base)
    for key, value in extra.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif isinstance(value, list) and isinstance(result.get(key), list):
            result[key] = result[key] + value
        else:
            result[key] = value
    return result


def sampling_prepare(unet: Any, x: Tensor) -> None:
    """The hosts load the UNet here; what was announced is looked at."""
    unet.loaded_with = unet.extra_preserved_memory_during_sampling
