"""Pictures by method: pairs through the embedded host, one pair or many at once.

Each batch has a Plan of its own, with one person a picture, which a script of the bench's attaches (bench/script.py).
Persons are loaded as the product loads them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.alternatives import ALTERNATIVES, SCOPES, Boxes
from bench.detailer import Recipe, detail, img2img_recipe
from bench.device import choose_device, move_host
from bench.methods import Method
from bench.pairs import Pair, Slot
from demo.dollhouse.world import SIZE
from lib_beyondfacial.adapters.attention import AdapterInjection
from lib_beyondfacial.method.mask import MaskPolicy
from lib_beyondfacial.method.predictions import Predictions
from lib_beyondfacial.sampling.plan import PERSON, IdentityLine, Plan, make_line
from lib_beyondfacial.settings import MethodParameters, Settings

if TYPE_CHECKING:
    from lib_beyondfacial.webui.person import Person

REPOSITORY = Path(__file__).resolve().parents[1]
WEIGHTS = REPOSITORY / "demo" / "dollhouse" / "weights"
SCRIPT, TITLE = REPOSITORY / "bench" / "script.py", "Plan"
PEOPLE_KEPT = 128


@dataclass(frozen=True)
class Sampling:
    """How every picture is sampled."""

    steps: int = 10
    cfg_scale: float = 5.0
    sampler_name: str = "DPM++ 2M"
    size: int = SIZE


@dataclass(eq=False)
class Painted:
    """A batch's pictures and what they cost. masks: per fused level (B, 1, h, w); warnings: on each one's photos;
    rows, seconds: per picture."""

    images: list[np.ndarray] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    warnings: list[int] = field(default_factory=list)
    rows: float = 0.0
    seconds: float = 0.0

    def flicker(self) -> list[float | None]:
        """By how much the mask changes from level to level: mean of sum|M_t - M_t-1| / sum max(M_t, M_t-1)."""
        if len(self.masks) < 2:
            return [None] * len(self.images)
        m = torch.stack(self.masks).flatten(2)
        change = (m[1:] - m[:-1]).abs().sum(-1)
        either = torch.maximum(m[1:], m[:-1]).sum(-1)
        return (change / either.clamp(min=1e-9)).mean(0).tolist()

    def coverage(self) -> list[float | None]:
        """Mean of the mask over picture and levels."""
        if not self.masks:
            return [None] * len(self.images)
        return torch.stack(self.masks).flatten(2).mean((0, 2)).tolist()


class RecordedMask:
    """A mask policy that notes every mask, of several lines the largest, (B, 1, h, w), on the CPU."""

    def __init__(self, policy: MaskPolicy, masks: list[Tensor]):
        self.policy, self.masks = policy, masks
        self.reads_attention, self.compute_maps = policy.reads_attention, policy.compute_maps

    def compute_masks(
        self, position: float, predictions: Predictions, attention: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        masks = self.policy.compute_masks(position, predictions, attention)
        self.masks.append(torch.stack(list(masks.values())).amax(0).float().cpu())
        return masks


class Painter:
    """The booted host; one at a time in a process."""

    def __init__(self, sampling: Sampling | None = None, device: str = "auto"):
        from demo.miniwebui.host import boot

        self.sampling, self.device = sampling or Sampling(), choose_device(device)
        self.host = boot(models_dir=WEIGHTS / "models", extensions=[SCRIPT])
        if self.device.type != "cpu":
            move_host(self.device)
        self.load_person = functools.lru_cache(maxsize=PEOPLE_KEPT)(load_person)

    def paint(self, pairs: list[Pair], method: Method, boxes: Boxes = (), finished: list[np.ndarray] = ()) -> Painted:
        """Every pair's picture by a method.

        Args:
            boxes: where each head is in the plain picture, for methods that need it.
            finished: the pictures that a detailer's pass goes on from, for methods with `after`; their cost is not
                counted again.
        """
        painted = Painted()
        if method.settings is not None:  # before the clock starts
            plan = self.make_plan(pairs, method, boxes, painted)
        hook = self._unet().register_forward_pre_hook(functools.partial(count_rows, painted, len(pairs)))
        try:
            began = time.perf_counter()
            if method.after:
                prompts, seeds = [pair.prompt for pair in pairs], [pair.seed for pair in pairs]
                painted.images = detail(plan, finished, prompts, seeds, self.recipe(method))
            else:
                request = self.request(pairs, method)
                if method.settings is not None:
                    request["alwayson_scripts"] = {TITLE: {"args": [plan]}}
                with SCOPES.get(method.alternative, nullcontext)():
                    images, _ = self.host.txt2img(**request)
                painted.images = [np.asarray(image.convert("RGB")) for image in images]
            painted.seconds = (time.perf_counter() - began) / len(pairs)
        finally:
            hook.remove()
        return painted

    def recipe(self, method: Method) -> Recipe:
        """How a detailer's pass of this method is sampled."""
        if method.strength is None:
            return Recipe()
        return img2img_recipe(method.strength, self.sampling.steps, self.sampling.cfg_scale)

    def request(self, pairs: list[Pair], method: Method) -> dict[str, Any]:
        s = replace(self.sampling, **method.sampling)
        return {
            "prompt": [pair.prompt_of(method.medium, method.other_gender) for pair in pairs],
            "seed": [pair.seed for pair in pairs],
            "batch_size": len(pairs),
            "steps": s.steps,
            "cfg_scale": s.cfg_scale,
            "sampler_name": s.sampler_name,
            "width": round(s.size * max(method.wide, pairs[0].wide) / 32) * 32,
            "height": s.size,
        }

    def make_plan(self, pairs: list[Pair], method: Method, boxes: Boxes, painted: Painted) -> Plan:
        """The method's plan for these pairs, a person of each pair in every line; `painted` gets the number of their
        photos' warnings, and the masks."""
        settings = Settings.from_dict(method.settings or {})
        slots = [pair.slots(method.photos, method.strangers, method.other_gender) for pair in pairs]
        loaded = [[self.load_person(slot.references) for slot in of_pair] for of_pair in slots]
        painted.warnings = [sum(len(each.identity.warnings) for each in of_pair) for of_pair in loaded]
        lines = [
            slots_to_line(settings, k, [each[k] for each in slots], [each[k] for each in loaded])
            for k in range(len(slots[0]))
        ]
        if settings.mask_mode == "whole":
            lines = [in_one_line(lines)]
        find_faces = functools.partial(loaded[0][0].analyser.find_in_scene, wanted=len(slots[0]))
        plan = Plan(settings, tuple(lines), find_faces)
        return record_masks(ALTERNATIVES[method.alternative](plan, boxes) if method.alternative else plan, painted)

    @torch.no_grad()
    def through_vae(self, picture: np.ndarray) -> np.ndarray:
        """A picture as the VAE gives it back, as sharp as any generated one can be."""
        from modules import shared

        model = shared.sd_model
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        latent = model.scale_factor * model.encode_first_stage(x.to(self.device)).mode()
        decoded = ((model.decode_first_stage(latent)[0].cpu() + 1) / 2).clamp(0, 1)
        return (255.0 * decoded.permute(1, 2, 0).numpy()).astype(np.uint8)

    def _unet(self) -> torch.nn.Module:
        from modules import shared

        return shared.sd_model.model.diffusion_model


def load_person(references: tuple[str, ...]) -> Person:
    """As the product loads it from an API request; once the host is there."""
    from lib_beyondfacial.webui import person

    return person.load_person(Settings(references=references), is_api=True)


def slots_to_line(settings: Settings, k: int, slots: list[Slot], loaded: list[Person]) -> IdentityLine:
    """The line of the k-th persons of the batch's pictures."""
    persons = tuple(
        replace(each.identity, gender=slot.gender) if slot.gender else each.identity
        for each, slot in zip(loaded, slots, strict=True)
    )
    line = make_line(settings, persons, loaded[0].adapter, [each.features for each in loaded])
    return replace(line, name=f"{PERSON} {k + 1}", subject=slots[0].subject, position=slots[0].position)


def in_one_line(lines: list[IdentityLine]) -> IdentityLine:
    """One line with the tokens of all persons, as in one adapter unit that is given several faces."""
    first = lines[0].injections[0]
    tokens = torch.cat([line.injections[0].tokens for line in lines], 1)
    return replace(lines[0], injections=(AdapterInjection(first.adapter, tokens),))


def record_masks(plan: Plan, painted: Painted) -> Plan:
    """The same plan, whose masks are noted."""

    def recorded(parameters: MethodParameters) -> RecordedMask:
        return RecordedMask(plan.mask_policy(parameters), painted.masks)

    return replace(plan, mask_policy=recorded)


def count_rows(painted: Painted, batch: int, module: torch.nn.Module, args: tuple) -> None:
    painted.rows += len(args[0]) / batch
