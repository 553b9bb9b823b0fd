"""One request, from the host's arguments to the pictures' reports: what scripts/beyondfacial.py delegates to."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from .. import __version__, hosts
from ..adapters import registry
from ..faces import analysis, reports
from ..hosts import words
from ..settings import Settings
from . import infotext, person, previews
from .failures import failing, remark, remarking


@dataclass
class Run:
    """What a request carries along from process() to postprocess(); it lives on the host's `p`, nowhere else."""

    plan: hosts.RunPlan
    handle: hosts.RunHandle
    analyser: analysis.FaceAnalyser
    is_api: bool
    reports: infotext.Reports = field(default_factory=infotext.Reports)
    masks: dict[int, Image.Image] = field(default_factory=dict)


def prepare(settings: Settings, is_api: bool) -> tuple[hosts.RunPlan, person.Person]:
    """What the settings name, loaded, as a plan; BeyondFacialError for whatever cannot be used."""
    loaded = person.load_person(settings, is_api)
    named = replace(settings, adapter=loaded.adapter.name)
    plan = hosts.make_plan(named, loaded.identity, loaded.adapter, loaded.analyser.find, loaded.features)
    return plan, loaded


def begin(p: Any, args: tuple[Any, ...]) -> None:
    """In process(): read the settings, load what they name, hand the plan to the host's seam."""
    end(p)
    with failing(p):
        settings = Settings.from_script_args(*args)
        if not settings.enabled or getattr(p, "_ad_inner", False):
            return
        is_api = bool(getattr(p, "is_api", False))
        plan, loaded = prepare(settings, is_api)
        unload_with(weakref.ref(p.sd_model))
        run = Run(plan, hosts.detect_host().begin(p, plan), loaded.analyser, is_api)
        prompts = " ".join(getattr(p, "all_prompts", None) or [str(p.prompt)])
        for warning in (*loaded.warnings, words.gender_warning(settings, plan.identity.gender, prompts)):
            if warning:
                run.handle.warn(warning)
        write_infotext(p, run)
        p._bf_run = run


def write_infotext(p: Any, run: Run) -> None:
    """Settings, version and hashes (never the photos) into the picture's parameters, and the list of reports."""
    p.extra_generation_params.update(run.plan.settings.to_infotext())
    p.extra_generation_params[infotext.VERSION_KEY] = __version__
    p.extra_generation_params[infotext.PHOTOS_KEY] = run.plan.identity.photo_hash
    p.extra_generation_params[infotext.ADAPTER_HASH_KEY] = run.plan.adapter.short_hash
    p.extra_generation_params[infotext.REPORT_KEY] = run.reports


def before_sampling(p: Any, noise: Any) -> None:
    """In process_before_every_sampling(): the start of one sampling pass."""
    if getattr(p, "_bf_run", None) is not None:
        hosts.detect_host().before_sampling(p, noise)


def report_image(p: Any, image: Image.Image) -> None:
    """In postprocess_image(): measure one finished picture and keep its mask."""
    run: Run | None = getattr(p, "_bf_run", None)
    if run is None:
        return
    with remarking(p):
        handle, in_batch = run.handle, p.batch_index
        run.reports.first = p.iteration * p.batch_size
        position = run.reports.first + in_batch
        has_mask = in_batch < len(handle.masks)
        mask = handle.masks[in_batch] if has_mask else None
        if run.plan.settings.show_mask:
            run.masks[position] = (
                previews.plain_mask(mask, image.size) if run.is_api else previews.heat_map(image, mask)
            )
        found = reports.compare(np.asarray(image.convert("RGB")), run.plan.identity, run.analyser)
        coverage = float(handle.coverage[in_batch]) if has_mask else 0.0
        values = {"similarity": found.similarity, "face_area": found.face_area, "mask_coverage": coverage}
        run.reports.put(position, infotext.Report(values))


def finish(p: Any, processed: Any) -> None:
    """In postprocess(): the warnings beside the pictures; the masks after them, each with its picture's infotext."""
    run: Run | None = getattr(p, "_bf_run", None)
    if run is None:
        return
    run.reports.first = 0
    with remarking(p, processed):
        warnings = run.handle.warnings
        for warning in warnings:
            remark(p, warning, processed)
        if warnings and run.is_api:  # the API hands out no comments
            processed.extra_generation_params[infotext.WARNINGS_KEY] = "; ".join(warnings)
        for position, mask in sorted(run.masks.items()):
            text = processed.infotexts[processed.index_of_first_image + position]
            mask.info["parameters"] = text
            processed.images.append(mask)
            processed.infotexts.append(text)
    end(p)


def end(p: Any) -> None:
    """Nothing of ours stays on `p`: it may be used again, as it is or as a copy (loopback, X/Y/Z)."""
    p._bf_run = None
    hosts.detect_host().end(p)


@functools.lru_cache(maxsize=4)
def unload_with(model: weakref.ref) -> None:
    """Once for each model of the host: when it goes, what we keep in memory goes, too."""
    weakref.finalize(model(), unload).atexit = False


def unload() -> None:
    """Free adapters and face packs; the next run loads them again."""
    registry.unload_adapters()
    analysis.unload_analysers()
