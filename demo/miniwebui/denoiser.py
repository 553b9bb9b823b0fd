"""Serves as `modules.sd_samplers_cfg_denoiser`: one model call for all rows, with the three callbacks around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from . import prompts as prompt_parser
from . import script_callbacks as events
from . import shared


class InterruptedException(BaseException):
    """Ends the sampling at once; what has been denoised so far becomes the picture."""


class CFGDenoiser(nn.Module):
    """(x, sigma) -> guided prediction, in the space of `inner_model`. Rows: [cond rows..., B uncond rows]."""

    wrap: Callable[[Any], nn.Module]

    def __init__(self, sampler: Any):
        super().__init__()
        self.sampler, self.model_wrap, self.p = sampler, None, None
        self.steps = self.total_steps = None
        self.step, self.cond_scale_miltiplier = 0, 1.0  # (sic)
        self.mask = self.nmask = self.init_latent = self.image_cfg_scale = None

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

    def _skips_uncond(self, sigma: Tensor, s_min_uncond: float) -> bool:
        """"Skip early CFG" and "negative guidance minimum sigma"; CFG 1 alone does not drop the uncond rows."""
        opts, generation = shared.opts, self.p.extra_generation_params
        if opts.skip_early_cond != 0.0 and self.step / self.total_steps <= opts.skip_early_cond:
            generation["Skip Early CFG"] = opts.skip_early_cond
            return True
        if (self.step % 2 or opts.s_min_uncond_all) and s_min_uncond > 0 and sigma[0] < s_min_uncond:
            generation["NGMS"] = s_min_uncond
            return True
        return False

    def _predict(self, x: Tensor, sigma: Tensor, text: Tensor, uncond: Tensor, image_cond: Tensor, skip: bool, batch: int) -> Tensor:
        def call(a: int, b: int, c: Tensor) -> Tensor:
            return self.inner_model(x[a:b], sigma[a:b], cond={"c_crossattn": [c], "c_concat": [image_cond[a:b]]})

        rows = x.shape[0]
        step = rows if shared.opts.batch_cond_uncond else batch
        if skip or text.shape[1] == uncond.shape[1]:
            text = text if skip else torch.cat([text, uncond])
            return torch.cat([call(a, min(a + step, rows), text[a : a + step]) for a in range(0, rows, step)])
        n, step = text.shape[0], batch * 2 if shared.opts.batch_cond_uncond else batch
        parts = [call(a, min(a + step, n), text[a : a + step]) for a in range(0, n, step)]
        return torch.cat([*parts, call(rows - uncond.shape[0], rows, uncond)])

    def _pad_conds(self, text: Tensor, uncond: Tensor) -> tuple[Tensor, Tensor]:
        if shared.opts.pad_cond_uncond and text.shape[1] != uncond.shape[1]:
            empty, length = shared.sd_model.cond_stage_model_empty_prompt, max(text.shape[1], uncond.shape[1])
            pads = [empty.repeat(c.shape[0], (length - c.shape[1]) // empty.shape[1], 1) for c in (text, uncond)]
            return torch.cat([text, pads[0]], 1), torch.cat([uncond, pads[1]], 1)
        return text, uncond

    def forward(  # noqa: PLR0913  the samplers' extra_args
        self, x: Tensor, sigma: Tensor, uncond: Any, cond: Any, cond_scale: float, s_min_uncond: float, image_cond: Tensor
    ) -> Tensor:
        state = shared.state
        if state.interrupted or state.skipped:
            raise InterruptedException
        conds_list, text = prompt_parser.reconstruct_multicond_batch(cond, self.step)
        uncond = prompt_parser.reconstruct_cond_batch(uncond, self.step)
        batch = len(conds_list)
        owner = [i for i, conds in enumerate(conds_list) for _ in conds] + list(range(batch))
        params = events.CFGDenoiserParams(
            x[owner], image_cond[owner], sigma[owner], state.sampling_step, state.sampling_steps, text, uncond, self
        )
        events.cfg_denoiser_callback(params)
        x_in, sigma_in, uncond = params.x, params.sigma, params.text_uncond
        skip = self._skips_uncond(sigma, s_min_uncond)
        if skip:
            x_in, sigma_in = x_in[:-batch], sigma_in[:-batch]
        text, uncond = self._pad_conds(params.text_cond, uncond)
        x_out = self._predict(x_in, sigma_in, text, uncond, params.image_cond, skip, batch)
        firsts = [conds[0][0] for conds in conds_list]
        if skip:
            x_out = torch.cat([x_out, x_out[firsts]])
        events.cfg_denoised_callback(
            events.CFGDenoisedParams(x_out, state.sampling_step, state.sampling_steps, self.inner_model)
        )
        denoised = self.combine_denoised(x_out, conds_list, uncond, 1.0 if skip else cond_scale * self.cond_scale_miltiplier)
        self.sampler.last_latent = self.get_pred_x0(x_in[firsts], x_out[firsts], sigma)
        state.current_latent = self.get_pred_x0(x_in[firsts], denoised, sigma)
        after = events.AfterCFGCallbackParams(denoised, state.sampling_step, state.sampling_steps)
        events.cfg_after_cfg_callback(after)
        self.step += 1
        return after.x
