"""Serves as `modules.sd_samplers_cfg_denoiser`: one model call for all rows, with the three callbacks around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from demo.sd1 import prompts as prompt_parser

from . import script_callbacks as events
from . import shared


class InterruptedException(BaseException):
    """Ends the sampling at once; what has been denoised so far becomes the picture."""


class CFGDenoiser(nn.Module):
    """(x, sigma) -> guided prediction, in the space of `inner_model`. Rows: [cond rows..., B uncond rows]."""

    wrap: Callable[[Any], nn.Module]
    cond_scale_miltiplier = 1.0  # sic; CFG++ samplers set it

    def __init__(self, sampler: Any):
        super().__init__()
        self.sampler, self.model_wrap, self.p = sampler, None, None
        self.steps = self.total_steps = self.mask = self.nmask = self.init_latent = None
        self.step = 0

    @property
    def inner_model(self) -> nn.Module:
        if self.model_wrap is None:
            self.model_wrap = self.wrap(shared.sd_model)
        return self.model_wrap

    def get_pred_x0(self, x_in: Tensor, x_out: Tensor, sigma: Tensor) -> Tensor:
        return x_out

    def combine_denoised(self, x_out: Tensor, conds_list: list, uncond: Tensor, cond_scale: float) -> Tensor:
        denoised_uncond = x_out[-uncond.shape[0] :]
        denoised = denoised_uncond.clone()
        for i, conds in enumerate(conds_list):
            for row, weight in conds:
                denoised[i] += (x_out[row] - denoised_uncond[i]) * (weight * cond_scale)
        return denoised

    def skips_uncond(self, sigma: Tensor, s_min_uncond: float) -> bool:
        """By the options "skip early CFG" and NGMS; CFG 1 alone does not drop the uncond rows."""
        opts, generation = shared.opts, self.p.extra_generation_params
        if opts.skip_early_cond != 0.0 and self.step / self.total_steps <= opts.skip_early_cond:
            generation["Skip Early CFG"] = opts.skip_early_cond
            return True
        if (self.step % 2 or opts.s_min_uncond_all) and s_min_uncond > 0 and sigma[0] < s_min_uncond:
            generation["NGMS"] = s_min_uncond
            return True
        return False

    def predict(
        self, x: Tensor, sigma: Tensor, image_cond: Tensor, text: Tensor, uncond: Tensor, batch: int
    ) -> Tensor:
        """All rows in one call, unless an option or prompts of different lengths forbid it."""
        if shared.opts.pad_cond_uncond and text.shape[1] != uncond.shape[1]:
            empty, longest = shared.sd_model.cond_stage_model_empty_prompt, max(text.shape[1], uncond.shape[1])
            text, uncond = (
                torch.cat([c, empty.repeat(len(c), (longest - c.shape[1]) // empty.shape[1], 1)], 1)
                for c in (text, uncond)
            )
        together, skipped = shared.opts.batch_cond_uncond, len(x) == len(text)
        if skipped or text.shape[1] == uncond.shape[1]:
            groups, size = [text if skipped else torch.cat([text, uncond])], len(x) if together else batch
        else:
            groups, size = [text, uncond], batch * 2 if together else batch
        outs, a = [], 0
        for rows in (part for group in groups for part in group.split(size)):
            b = a + len(rows)
            outs.append(
                self.inner_model(x[a:b], sigma[a:b], cond={"c_crossattn": [rows], "c_concat": [image_cond[a:b]]})
            )
            a = b
        return torch.cat(outs)

    def forward(  # noqa: PLR0913  the samplers' extra_args
        self,
        x: Tensor,
        sigma: Tensor,
        uncond: Any,
        cond: Any,
        cond_scale: float,
        s_min_uncond: float,
        image_cond: Tensor,
    ) -> Tensor:
        if shared.state.interrupted or shared.state.skipped:
            raise InterruptedException
        conds_list, text = prompt_parser.reconstruct_multicond_batch(cond, self.step)
        uncond = prompt_parser.reconstruct_cond_batch(uncond, self.step)
        batch, step = len(conds_list), (shared.state.sampling_step, shared.state.sampling_steps)
        owner = [i for i, conds in enumerate(conds_list) for _ in conds] + list(range(batch))
        params = events.CFGDenoiserParams(x[owner], image_cond[owner], sigma[owner], *step, text, uncond, self)
        events.cfg_denoiser_callback(params)
        x_in, sigma_in, uncond = params.x, params.sigma, params.text_uncond
        skip = self.skips_uncond(sigma, s_min_uncond)
        if skip:
            x_in, sigma_in = x_in[:-batch], sigma_in[:-batch]
        x_out = self.predict(x_in, sigma_in, params.image_cond, params.text_cond, uncond, batch)
        firsts = [conds[0][0] for conds in conds_list]
        if skip:
            x_out = torch.cat([x_out, x_out[firsts]])
        events.cfg_denoised_callback(events.CFGDenoisedParams(x_out, *step, self.inner_model))
        cond_scale *= self.cond_scale_miltiplier
        denoised = self.combine_denoised(x_out, conds_list, uncond, 1.0 if skip else cond_scale)
        self.sampler.last_latent = self.get_pred_x0(x_in[firsts], x_out[firsts], sigma)
        shared.state.current_latent = self.get_pred_x0(x_in[firsts], denoised, sigma)
        after = events.AfterCFGCallbackParams(denoised, *step)
        events.cfg_after_cfg_callback(after)
        self.step += 1
        return after.x
