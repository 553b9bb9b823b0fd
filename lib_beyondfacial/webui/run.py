"""One request, from the host's arguments to the pictures' reports; scripts/beyondfacial.py calls this module."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from .. import __version__
from ..adapters import registry
from ..errors import BeyondFacialError
from ..faces import analysis
from ..hosts import request
from ..hosts.run import Run, run_of
from ..sampling.advice import refuse_subjects
from ..sampling.plan import PERSON, IdentityLine, Plan, make_line, make_line_of
from ..settings import FIELDS, Settings
from . import cells, forwarding, host_settings, identities, infotext, neighbours, person, pictures, plain_pictures
from .failures import PREFIX, add_comment, add_line, fail_on_error, report_errors, report_sampling_errors
from .pictures import Output, saves_pictures
from .run_report import best_position, cost_lines, missing_faces, report_lines

CELL_WITHOUT = "BeyondFacial is off, so its axis of the X/Y/Z plot changes nothing; switch it on."


def make_plan(settings: Settings, *loaded: person.Person) -> Plan:
    """The plan of a request, with a line for each person."""
    lines = [make_person_line(each, of_person) for each, of_person in zip(settings.each_person(), loaded, strict=True)]
    if settings.persons:
        lines = [
            replace(
                line,
                name=f"{PERSON} {number}",
                label=f'"{given.name}"' if given.name else f"{PERSON} {number}",
                position=0 if given.position == "auto" else int(given.position),
            )
            for number, (line, given) in enumerate(zip(lines, settings.persons, strict=True), 1)
        ]
    analyser = loaded[0].analyser
    if analyser is None:
        return Plan(replace(settings, refine_head=False, idap_strength=0.0), tuple(lines), lambda picture: [])
    find_faces = analyser.find_in_scene
    if len(lines) > 1:
        find_faces = functools.partial(find_faces, wanted=len(lines))
    return Plan(settings, tuple(lines), find_faces)


def make_person_line(settings: Settings, loaded: person.Person) -> IdentityLine:
    """The line of one person, drawn by the adapter or by a ControlNet unit."""
    if loaded.unit is not None:
        return make_line_of(settings, (loaded.identity,), loaded.unit)
    return make_line(settings, (loaded.identity,), loaded.adapter, [loaded.features])


def first_adapter(loaded: Sequence[person.Person]) -> registry.LoadedAdapter | None:
    """The adapter, one for all persons; None if ControlNet units draw all of them."""
    return next((each.adapter for each in loaded if each.adapter is not None), None)


def begin(p: Any, args: tuple[Any, ...]) -> None:
    """In process(): read the settings, load person and adapter, begin the run."""
    if request.leave_copy(p):
        return
    request.end(p)
    with fail_on_error(p):
        if error := forwarding.kept(p, "error", ""):
            raise BeyondFacialError(error)
        is_api = bool(getattr(p, "is_api", False))
        args = cells.apply_cell(p, args)
        settings = Settings.from_script_args(*args, is_api=is_api)
        if not settings.enabled:
            if cells.name_cell(p):
                add_comment(p, CELL_WITHOUT)
            return
        p.extra_generation_params.pop(
            infotext.WARNINGS_KEY, None
        )  # from the previous request, if a script uses `p` again
        if (title := neighbours.redraws_tiles(p)) and not settings.in_tiles:
            stay_out(p, neighbours.IN_TILES.format(title=title))
            return
        has_texts = is_api or isinstance(args[0], Mapping)  # ADetailer's inner jobs of an API request have no API flag
        texts = getattr(p, "all_prompts", None) or [str(p.prompt)]
        refuse_subjects(settings, texts)
        loaded = person.load_persons(settings, has_texts, p)
        adapter = first_adapter(loaded)
        settings = replace(settings, adapter=adapter.name if adapter else "", **forwarding.kept(p, "settings", {}))
        if settings.embedding and settings.identity_in_infotext:
            settings = replace(settings, identity=identities.name_of_photos(loaded[0].identity.photo_hash))
        unload_with(weakref.ref(p.sd_model))
        before, unwanted = plain_pictures.copy_before(p, settings)
        run = request.begin(p, make_plan(settings, *loaded), Output(settings, loaded, is_api))
        run.owner_data.plain = before
        for warning in (*forwarding.kept(p, "warnings", ()), *person.warn(settings, loaded, texts), *unwanted):
            run.report.warn(warning)
        if neighbours.restores_faces(p):
            run.report.warn(neighbours.RESTORED)
        write_infotext(p, run.owner_data)
        if cells.name_cell(p):  # a plot drops the comments of all cells but the first
            report_sampling_errors(p)
            p.extra_generation_params[infotext.WARNINGS_KEY] = run.report.warnings = infotext.Warnings(
                run.report.warnings
            )


def stay_out(p: Any, warning: str) -> None:
    """Do nothing in this request, and add a warning with the reason: under the pictures, in infotexts and API info."""
    add_comment(p, warning)
    p.extra_generation_params[infotext.WARNINGS_KEY] = infotext.Warnings([warning])


def write_infotext(p: Any, output: Output) -> None:
    """Settings, version and hashes (never the photos) into the picture's parameters, and the list of reports."""
    ours = (*(each.infotext for each in FIELDS), *infotext.PERSON_INFOTEXTS, infotext.ADAPTER_HASH_KEY)
    for key in ours:  # of an earlier request on this `p`
        p.extra_generation_params.pop(key, None)
    p.extra_generation_params.update(output.settings.to_infotext())
    p.extra_generation_params[infotext.VERSION_KEY] = __version__
    hashes = [each.identity.photo_hash for each in output.persons]
    p.extra_generation_params.update(infotext.describe_persons(output.settings, hashes))
    if adapter := first_adapter(output.persons):
        p.extra_generation_params[infotext.ADAPTER_HASH_KEY] = adapter.short_hash
    p.extra_generation_params[infotext.REPORT_KEY] = output.reports


def before_sampling(p: Any, noise: Any) -> None:
    """In process_before_every_sampling(): prepare one sampling pass."""
    found = output_of(p)
    if found is not None and noise is not None:
        found[1].sampled = len(noise)
        plain_pictures.count_jobs(found[1])
    request.before_sampling(p, noise)


def output_of(p: Any) -> tuple[Run, Output] | None:
    """The run on `p` and its output; None if this request did not ask for a person."""
    run = run_of(p)
    return (run, run.owner_data) if run is not None and isinstance(run.owner_data, Output) else None


def finish_batch(p: Any, images: Any) -> None:
    """In postprocess_batch(): add what refined heads need to the decoded pictures."""
    if output_of(p) is not None:
        with report_errors(p):
            request.finish_batch(p, images)


def report_image(p: Any, image: Image.Image) -> None:
    """In the last callback of a finished picture: measure it and keep its mask."""
    found = output_of(p)
    if found is not None:
        with report_errors(p):
            pictures.add_picture(p, *found, image)


def finish(p: Any, processed: Any) -> None:
    """In postprocess(): add the warnings, and the masks after the pictures, each with its picture's infotext."""
    found = output_of(p)
    if found is None:
        return
    run, output = found
    output.reports.first = 0
    with report_errors(p, processed):
        places = pictures.find_pictures(output, processed)
        changes = pictures.tell_changes(p, output, processed, places)
        for sentence in (*changes, *pictures.tell_lacks(output), *missing_faces(output)):
            run.report.warn(sentence)
        masks = show_masks(p, run, output, processed, places)
        for warning in run.report.warnings:
            add_comment(p, warning, processed)
        if output.is_api:
            processed.extra_generation_params.pop(infotext.WARNINGS_KEY, None)
            answer_api(processed, run.report.warnings, places, masks)
            if (best := best_position(output)) in places:
                processed.extra_generation_params[infotext.BEST_KEY] = places[best]
    request.end(p)
    with report_errors(p, processed):
        has_plain = plain_pictures.add_plain(p, output, processed)
        if not output.is_api and not neighbours.running_script(p):  # a grid's cells would all tell of a picture 1
            for line in (*report_lines(output), *cost_lines(run.report, has_plain)):
                add_line(p, line, processed)


def show_masks(p: Any, run: Run, output: Output, processed: Any, places: dict[int, int]) -> list[int]:
    """Append the masks to the pictures and return their indices; save them instead if a script arranges all."""
    if output.shows_mask and (elsewhere := [n for n, each in output.pictures.items() if each.is_elsewhere]):
        run.report.warn(pictures.NO_MASKS.format(numbers=", ".join(str(n + 1) for n in sorted(elsewhere))))
    masks = {position: each.mask for position, each in sorted(output.pictures.items()) if each.mask is not None}
    texts = {position: text_of(processed, position) for position in masks}
    title = neighbours.running_script(p)
    if (title and output.shows_mask) or (host_settings.saves_masks() and saves_pictures(p)):
        names = [neighbours.save_mask(p, mask, position, texts[position]) for position, mask in masks.items()]
        if title and names:
            run.report.warn(
                f'The script "{title}" arranges the pictures itself, so the masks were saved: {", ".join(names)}.'
            )
    if title or not output.shows_mask:
        return []
    first = len(processed.images)
    processed.infotexts += [processed.info] * (first - len(processed.infotexts))  # for pictures of other extensions
    for position, mask in masks.items():
        text = f"{texts[position]}, {infotext.MASK_KEY}: of picture {position + 1}"
        mask.info["parameters"] = text
        mask.info["beyondfacial"] = f"mask {position + 1} of {places.get(position, -1)}"  # for the page's script
        processed.images.append(mask)
        processed.infotexts.append(text)
    return list(range(first, first + len(masks)))


def text_of(processed: Any, position: int) -> str:
    at = processed.index_of_first_image + position
    return processed.infotexts[at] if at < len(processed.infotexts) else processed.info


def answer_api(processed: Any, warnings: list[str], places: dict[int, int], masks: list[int]) -> None:
    """Add warnings and mask indices to the API answer's `info`; not to `p`, whose next infotext would have them."""
    more: dict[str, Any] = {infotext.PICTURES_KEY: list(places.values())}
    if masks:
        more[infotext.MASKS_KEY] = masks
    if warnings:
        more[infotext.WARNINGS_KEY] = [warning.removeprefix(PREFIX) for warning in warnings]
    processed.extra_generation_params = {**processed.extra_generation_params, **more}


@functools.lru_cache(maxsize=4)
def unload_with(model: weakref.ref) -> None:
    """Free our memory when the host unloads this model; registered once a model."""
    weakref.finalize(model(), unload).atexit = False


def unload() -> None:
    """Free adapters and face packs; the next request loads them again."""
    registry.unload_adapters()
    analysis.unload_analysers()
