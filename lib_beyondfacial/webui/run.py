"""One request, from the host's arguments to the pictures' reports: what scripts/beyondfacial.py delegates to."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from .. import __version__
from ..adapters import registry
from ..faces import analysis, reports
from ..hosts import request
from ..hosts.run import Run, run_of
from ..sampling.gender import gender_warning
from ..sampling.plan import Plan, make_line
from ..settings import Settings
from . import infotext, person, previews
from .failures import failing, remark, remarking


@dataclass(eq=False)
class Output:
    """What a request carries along for its pictures, from process() to postprocess(); it lives on the host's `p`."""

    settings: Settings
    person: person.Person
    is_api: bool
    reports: infotext.Reports = field(default_factory=infotext.Reports)
    masks: dict[int, Image.Image] = field(default_factory=dict)


def make_plan(settings: Settings, loaded: person.Person) -> Plan:
    """The plan of a request for one person."""
    line = make_line(settings, (loaded.identity,), loaded.adapter, [loaded.features])
    return Plan(settings, (line,), loaded.analyser.find_in_scene)


def begin(p: Any, args: tuple[Any, ...]) -> None:
    """In process(): read the settings, load what they name, hand the plan to the host."""
    request.end(p)
    with failing(p):
        settings = Settings.from_script_args(*args)
        if not settings.enabled or getattr(p, "_ad_inner", False):
            return
        is_api = bool(getattr(p, "is_api", False))
        loaded = person.load_person(settings, is_api)
        settings = replace(settings, adapter=loaded.adapter.name)
        unload_with(weakref.ref(p.sd_model))
        run = request.begin(p, make_plan(settings, loaded), Output(settings, loaded, is_api))
        for warning in loaded.warnings:
            run.report.warn(warning)
        prompts = " ".join(getattr(p, "all_prompts", None) or [str(p.prompt)])
        warning = gender_warning(loaded.identity.gender, prompts)
        if warning and settings.gender_alignment == "warn":
            run.report.warn(warning)
        write_infotext(p, run.owner_data)


def write_infotext(p: Any, output: Output) -> None:
    """Settings, version and hashes (never the photos) into the picture's parameters, and the list of reports."""
    p.extra_generation_params.update(output.settings.to_infotext())
    p.extra_generation_params[infotext.VERSION_KEY] = __version__
    p.extra_generation_params[infotext.PHOTOS_KEY] = output.person.identity.photo_hash
    p.extra_generation_params[infotext.ADAPTER_HASH_KEY] = output.person.adapter.short_hash
    p.extra_generation_params[infotext.REPORT_KEY] = output.reports


def before_sampling(p: Any, noise: Any) -> None:
    """In process_before_every_sampling(): the start of one sampling pass."""
    request.before_sampling(p, noise)


def output_of(p: Any) -> tuple[Run, Output] | None:
    """The run on `p` and its output; None where the request asked for no person through the UI or the API."""
    run = run_of(p)
    return (run, run.owner_data) if run is not None and isinstance(run.owner_data, Output) else None


def report_image(p: Any, image: Image.Image) -> None:
    """In postprocess_image(): measure one finished picture and keep its mask."""
    found = output_of(p)
    if found is None:
        return
    run, output = found
    with remarking(p):
        output.reports.first = p.iteration * p.batch_size
        position, mask = output.reports.first + p.batch_index, run.report.mask_of(p.batch_index)
        if output.settings.show_mask:
            output.masks[position] = (
                previews.plain_mask(mask, image.size) if output.is_api else previews.heat_map(image, mask)
            )
        analyser, identity = output.person.analyser, output.person.identity
        measured = reports.compare(np.asarray(image.convert("RGB")), identity, analyser)
        coverage = 0.0 if mask is None else float(mask.mean())
        values = {"similarity": measured.similarity, "face_area": measured.face_area, "mask_coverage": coverage}
        output.reports.put(position, infotext.Report(values))


def finish(p: Any, processed: Any) -> None:
    """In postprocess(): the warnings beside the pictures; the masks after them, each with its picture's infotext."""
    found = output_of(p)
    if found is None:
        return
    run, output = found
    output.reports.first = 0
    with remarking(p, processed):
        warnings = run.report.warnings
        for warning in warnings:
            remark(p, warning, processed)
        if warnings and output.is_api:  # the API hands out no comments
            processed.extra_generation_params[infotext.WARNINGS_KEY] = "; ".join(warnings)
        for position, mask in sorted(output.masks.items()):
            text = processed.infotexts[processed.index_of_first_image + position]
            mask.info["parameters"] = text
            processed.images.append(mask)
            processed.infotexts.append(text)
    request.end(p)


@functools.lru_cache(maxsize=4)
def unload_with(model: weakref.ref) -> None:
    """Once for each model of the host: when it goes, what we keep in memory goes, too."""
    weakref.finalize(model(), unload).atexit = False


def unload() -> None:
    """Free adapters and face packs; the next run loads them again."""
    registry.unload_adapters()
    analysis.unload_analysers()
