"""Pictures by method: pairs through the embedded host's API with the extension's own script, one pair or many at once.

Within a request the extension knows one person. A batch of pairs has one each, so for a batch the person's loading and
the start's reference are asked once a picture; everything else is the product's own way (tests/bench holds batches
against pictures made one by one).
"""

from __future__ import annotations

import functools
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.alternatives import ALTERNATIVES, HeadBox
from bench.device import choose_device, move_host
from bench.methods import Method
from bench.pairs import Pair
from bench.replacing import replaced
from demo.dollhouse.world import SIZE
from lib_beyondfacial.hosts import a1111_start
from lib_beyondfacial.method.engine import RunState
from lib_beyondfacial.method.prepend import Box
from lib_beyondfacial.settings import Settings

if TYPE_CHECKING:
    from lib_beyondfacial.webui.person import Person

REPOSITORY = Path(__file__).resolve().parents[1]
WEIGHTS = REPOSITORY / "demo" / "dollhouse" / "weights"
PEOPLE_KEPT = 128
OF_THE_PERSON = ("enabled", "references", "identity", "adapter", "adapter_family")
OF_THE_PERSON += ("face_pack", "face_choice", "face_index")


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


@dataclass(frozen=True)
class BoxOfImage(Box):
    """A box that knows whose it is: equal boxes of two pictures are not the same."""

    image: int = 0


class Painter:
    """The booted host; one at a time in a process."""

    def __init__(self, sampling: Sampling | None = None, device: str = "auto"):
        from demo.miniwebui.host import boot

        self.sampling, self.device = sampling or Sampling(), choose_device(device)
        self.host = boot(models_dir=WEIGHTS / "models", extensions=[REPOSITORY])
        if self.device.type != "cpu":
            move_host(self.device)
        from lib_beyondfacial.webui import person  # only once the host is there

        self._load = functools.lru_cache(maxsize=PEOPLE_KEPT)(person.load_person)

    def load_person(self, settings: Settings, is_api: bool) -> Person:
        """As the product loads it, once for all methods."""
        return self._load(Settings(**{key: getattr(settings, key) for key in OF_THE_PERSON}), is_api)

    def paint(self, pairs: list[Pair], method: Method, boxes: list[HeadBox | None] | None = None) -> Painted:
        """Every pair's picture by a method.

        Args:
            boxes: where each head is in the plain picture, for methods that need it.
        """
        painted = Painted()
        with ExitStack() as stack:
            hook = self._unet().register_forward_pre_hook(functools.partial(count_rows, painted, len(pairs)))
            stack.callback(hook.remove)
            if method.settings is not None:
                self._prepare(stack, pairs, method, painted)
            if method.alternative:
                stack.enter_context(ALTERNATIVES[method.alternative](boxes or []))
            began = time.perf_counter()
            images, _ = self.host.txt2img(**self.request(pairs, method))
            painted.seconds = (time.perf_counter() - began) / len(pairs)
        painted.images = [np.asarray(image.convert("RGB")) for image in images]
        return painted

    def request(self, pairs: list[Pair], method: Method) -> dict[str, Any]:
        s = self.sampling
        asked: dict[str, Any] = {
            "prompt": [pair.prompt_of(method.medium, method.other_gender) for pair in pairs],
            "seed": [pair.seed for pair in pairs],
            "batch_size": len(pairs),
            "steps": s.steps,
            "cfg_scale": s.cfg_scale,
            "sampler_name": s.sampler_name,
            "width": round(s.size * method.wide / 32) * 32,
            "height": s.size,
        }
        if method.settings is not None:
            photos = pairs[0].references(method.photos, method.strangers)
            unit = {"enabled": True, "references": list(photos), **method.settings}
            asked["alwayson_scripts"] = {"BeyondFacial": {"args": [unit]}}
        return asked

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

    def _prepare(self, stack: ExitStack, pairs: list[Pair], method: Method, painted: Painted) -> None:
        """Persons are loaded before the clock starts and kept; masks are noted; the product's own report of each
        picture is left out, as it would look for faces on the clock."""
        from lib_beyondfacial.webui import person, run

        stack.enter_context(replaced(person, "load_person", self.load_person))
        stack.enter_context(replaced(run, "report_image", lambda p, image: None))
        unit = self.request(pairs, method)["alwayson_scripts"]["BeyondFacial"]["args"][0]
        settings = Settings.from_script_args(unit)
        own = run.prepare
        photos = [pair.references(method.photos, method.strangers) for pair in pairs]
        plans = [own(replace(settings, references=each), True) for each in photos]
        if method.other_gender:
            plans = [(with_gender(plan, pair.gender), p) for (plan, p), pair in zip(plans, pairs, strict=True)]
            if len(pairs) == 1:
                stack.enter_context(replaced(run, "prepare", lambda settings, is_api: plans[0]))
        painted.warnings = [len(plan.identity.warnings) for plan, _ in plans]
        if len(pairs) > 1:
            first, loaded = plans[0]
            tokens = torch.cat([plan.tokens for plan, _ in plans])
            together = (replace(first, tokens=tokens), loaded)
            stack.enter_context(replaced(run, "prepare", lambda settings, is_api: together))
            self._starts_of(stack, [plan.identity.crop for plan, _ in plans])
        fuse = RunState.fuse

        def noting(state: RunState, *args: Any, **kwargs: Any) -> Tensor:
            delta = fuse(state, *args, **kwargs)
            painted.masks.append(state.fused_mask.float().cpu())
            return delta

        stack.enter_context(replaced(RunState, "fuse", noting))

    @staticmethod
    def _starts_of(stack: ExitStack, crops: list[np.ndarray]) -> None:
        """Each picture's start gets its own person's head: its box tells which."""
        look, latent = a1111_start.look_ahead, a1111_start.reference_latent

        def look_ahead(*args: Any) -> list[Box]:
            return [BoxOfImage(*vars(box).values(), image=i) for i, box in enumerate(look(*args))]

        def reference_latent(encode: Any, crop: np.ndarray, box: BoxOfImage, *args: Any) -> Tensor:
            return latent(encode, crops[box.image], box, *args)

        stack.enter_context(replaced(a1111_start, "look_ahead", look_ahead))
        stack.enter_context(replaced(a1111_start, "reference_latent", reference_latent))


def with_gender(plan: Any, gender: str) -> Any:
    """The plan of a face pack that tells the gender, as Dollhouse's does not."""
    return replace(plan, identity=replace(plan.identity, gender=gender))


def count_rows(painted: Painted, batch: int, module: torch.nn.Module, args: tuple) -> None:
    painted.rows += len(args[0]) / batch
