"""Serves as `modules.processing`: the job `p`, and the loop over its batches in A1111's callback order."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo.dollhouse.world import SIZE
from demo.sd1 import prompts as prompt_parser

from . import basics as devices
from . import scripts, shared
from .samplers import create_sampler

VERSION = "miniwebui"


@dataclass(repr=False)
class StableDiffusionProcessing:
    """One request. Attributes may be replaced per instance, `sample` among them."""

    sd_model: Any = None
    prompt: str | list[str] = ""
    negative_prompt: str | list[str] = ""
    seed: int | list[int] = -1
    sampler_name: str = "Euler"
    scheduler: str | None = None
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 20
    cfg_scale: float = 7.0
    width: int = SIZE
    height: int = SIZE
    eta: float | None = None
    s_min_uncond: float | None = None
    denoising_strength: float | None = None
    override_settings: dict[str, Any] = field(default_factory=dict)
    extra_generation_params: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, int] = field(default_factory=dict)
    enable_hr: bool = False
    is_hr_pass: bool = False
    is_api: bool = False
    outpath_samples: str = ""
    scripts: Any = None
    script_args: Any = ()
    sampler: Any = None

    cached_c = [None, None]  # noqa: RUF012  shared by all jobs, as in the host
    cached_uc = [None, None]  # noqa: RUF012

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    def setup_prompts(self) -> None:
        count = self.batch_size * self.n_iter
        self.all_prompts = self.prompt if isinstance(self.prompt, list) else [self.prompt] * count
        negative = self.negative_prompt
        self.all_negative_prompts = negative if isinstance(negative, list) else [negative] * len(self.all_prompts)

    def setup_conds(self) -> None:
        """`c` and `uc`, kept for the next job with the same prompts."""
        options = (shared.opts.CLIP_stop_at_last_layers, shared.opts.emphasis, self.steps, self.width, self.height)
        for name, function, texts in (
            ("uc", prompt_parser.get_learned_conditioning, self.negative_prompts),
            ("c", prompt_parser.get_multicond_learned_conditioning, self.prompts),
        ):
            cache, key = getattr(self, f"cached_{name}"), (tuple(texts), options, self.sd_model.sd_checkpoint_info)
            if cache[0] != key:
                asked = prompt_parser.SdConditioning(texts, name == "uc", self.width, self.height)
                cache[:] = [key, function(self.sd_model, asked, self.steps)]
            setattr(self, name, cache[1])

    def close(self) -> None:
        self.sampler = self.c = self.uc = None


class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    def sample(self, conditioning: Any, unconditional_conditioning: Any, **_batch: Any) -> Tensor:
        self.sampler = create_sampler(self.sampler_name, self.sd_model)
        x = self.rng.next()
        self.scripts.process_before_every_sampling(self, x=x, noise=x, c=conditioning, uc=unconditional_conditioning)
        image_cond = x.new_zeros(len(x), 5, 1, 1)
        return self.sampler.sample(self, x, conditioning, unconditional_conditioning, image_conditioning=image_cond)


class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
    """Only a name to compare with: there is no img2img here."""


class Processed:
    """What a job gives, and what `postprocess` may change."""

    def __init__(self, p: StableDiffusionProcessing, images_list: list[Image.Image], infotexts: list[str]):
        self.images, self.infotexts, self.info, self.index_of_first_image = images_list, infotexts, infotexts[0], 0
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        same = "width height sampler_name cfg_scale steps batch_size sd_model_name sd_model_hash denoising_strength"
        for key in f"{same} extra_generation_params all_prompts all_negative_prompts all_seeds all_subseeds".split():
            setattr(self, key, getattr(p, key))
        self.prompt, self.negative_prompt, self.seed = p.all_prompts[0], p.all_negative_prompts[0], p.all_seeds[0]
        self.subseed, self.job_timestamp = p.all_subseeds[0], shared.state.job_timestamp
        self.clip_skip, self.version = shared.opts.CLIP_stop_at_last_layers, VERSION

    def js(self) -> str:
        content = {k: v for k, v in vars(self).items() if k not in ("images", "info", "comments")}
        return json.dumps(content, default=lambda _: None)


def create_infotext(p: StableDiffusionProcessing, index: int) -> str:
    """The text under the picture at `index` of the batch; lists give their entry at index, callables are called."""
    prompt, negative, skip = p.prompts[index], p.negative_prompts[index], shared.opts.CLIP_stop_at_last_layers
    params = {"Steps": p.steps, "Sampler": p.sampler_name, "Schedule type": p.scheduler, "CFG scale": p.cfg_scale}
    params |= {"Seed": p.seeds[index], "Size": f"{p.width}x{p.height}", "Model hash": p.sd_model_hash}
    params |= {"Model": p.sd_model_name, "Clip skip": skip if skip > 1 else None}
    params |= {**p.extra_generation_params, "Version": VERSION}
    for key, value in params.items():
        try:
            if isinstance(value, list):
                params[key] = value[index]
            elif callable(value):
                params[key] = value(p=p, index=index, prompt_text=prompt, negative_prompt=negative)
        except Exception:
            devices.report(f'Error creating infotext for key "{key}"', exc_info=True)
            params[key] = None
    line = ", ".join(k if k == v else f"{k}: {devices.quote(v)}" for k, v in params.items() if v is not None)
    return prompt + (f"\nNegative prompt: {negative}" if negative else "") + f"\n{line}"


def get_fixed_seed(seed: Any) -> Any:
    """The same, or a random one where none is given."""
    return random.randrange(2**32 - 2) if seed in (-1, None, "") else seed


def process_images(p: StableDiffusionProcessing) -> Processed:
    p.scripts.before_process(p)
    data = shared.opts.data
    stored = dict(data)
    try:
        data.update(p.override_settings)
        return process_images_inner(p)
    finally:
        data.clear()
        data.update(stored)


@torch.no_grad()
def process_images_inner(p: StableDiffusionProcessing) -> Processed:
    state = shared.state
    if p.enable_hr:
        raise ValueError("This host has no hires fix; switch it off.")
    p.sd_model_name, p.sd_model_hash = p.sd_model.sd_checkpoint_info.name_for_extra, p.sd_model.sd_model_hash
    p.scheduler = p.scheduler or "Automatic"
    p.s_min_uncond = shared.opts.s_min_uncond if p.s_min_uncond is None else p.s_min_uncond
    seed = get_fixed_seed(p.seed)
    p.setup_prompts()
    p.all_seeds = seed if isinstance(seed, list) else [int(seed) + i for i in range(len(p.all_prompts))]
    p.all_subseeds = [-1] * len(p.all_seeds)
    p.scripts.process(p)
    images: list[Image.Image] = []
    infotexts: list[str] = []
    state.job_count = p.n_iter if state.job_count == -1 else state.job_count
    for n in range(p.n_iter):
        p.iteration, state.skipped = n, False
        if state.interrupted or state.stopping_generation:
            break
        process_batch(p, n, images, infotexts)
    processed = Processed(p, images, infotexts or [""])
    p.scripts.postprocess(p, processed)
    return processed


def process_batch(p: StableDiffusionProcessing, n: int, images: list[Image.Image], infotexts: list[str]) -> None:
    """From prompts to pictures; appends to both lists."""
    part = slice(n * p.batch_size, (n + 1) * p.batch_size)
    for name in ("prompts", "negative_prompts", "seeds", "subseeds"):
        setattr(p, name, getattr(p, f"all_{name}")[part])
    p.rng = devices.ImageRNG((4, p.height // 8, p.width // 8), p.seeds)
    batch = {"batch_number": n, "prompts": p.prompts, "seeds": p.seeds, "subseeds": p.subseeds}
    p.scripts.before_process_batch(p, **batch)
    p.scripts.after_extra_networks_activate(p, **batch, extra_network_data={})
    p.scripts.process_batch(p, **batch)
    p.setup_conds()
    request = {"seeds": p.seeds, "subseeds": p.subseeds, "subseed_strength": 0, "prompts": p.prompts}
    sampled = scripts.PostSampleArgs(p.sample(conditioning=p.c, unconditional_conditioning=p.uc, **request))
    p.scripts.post_sample(p, sampled)
    devices.test_for_nans(sampled.samples, "unet")
    decoded = torch.cat([p.sd_model.decode_first_stage(sample[None]).cpu() for sample in sampled.samples])
    devices.test_for_nans(decoded, "vae")
    decoded = ((decoded + 1) / 2).clamp(0, 1)
    shared.state.nextjob()
    p.scripts.postprocess_batch(p, images=decoded, batch_number=n)
    listed = scripts.PostprocessBatchListArgs(list(decoded))
    p.scripts.postprocess_batch_list(p, listed, batch_number=n)
    for i, sample in enumerate(listed.images):
        p.batch_index = i
        pp = scripts.PostprocessImageArgs(
            Image.fromarray((255.0 * np.moveaxis(sample.numpy(), 0, 2)).astype(np.uint8))
        )
        p.scripts.postprocess_image(p, pp)
        p.scripts.postprocess_maskoverlay(p, scripts.PostProcessMaskOverlayArgs(i, None, None))
        p.scripts.postprocess_image_after_composite(p, pp)
        infotexts.append(create_infotext(p, i))
        pp.image.info["parameters"] = infotexts[-1]
        images.append(pp.image)
