"""The finished pictures of a request: their reports, masks, and what they lack."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ..faces import reports
from ..hosts.model import is_interrupted
from ..hosts.run import Run
from ..method.assignment import HeadBox
from ..sampling.shortfalls import Shortfall, find_shortfall
from ..settings import Settings
from . import host_settings, infotext, person, previews

ELSEWHERE = "made by another machine"  # whose own infotext tells the rest
NO_MASKS = "Other machines send no masks, so pictures {numbers}, which they made, have none."


@dataclass(eq=False)
class Picture:
    """One finished picture.

    image: the host's object; checksum: of its pixels when measured; lack: None if none. is_elsewhere: whether another
    machine made it. refined: by person, whether the head was. heads: by person, where the refinement has put it, if it
    is known.
    """

    image: Image.Image
    checksum: int
    report: infotext.Report
    mask: Image.Image | None
    lack: Shortfall | None
    refined: tuple[bool, ...] = ()
    is_elsewhere: bool = False
    heads: tuple[HeadBox | None, ...] = ()


@dataclass(eq=False)
class Output:
    """Data of a request for its pictures, from process() to postprocess(); an attribute of the host's `p`.

    Positions are counted, not computed, because extensions may change how many pictures a batch has.
    sampled: how many pictures of the present batch were sampled here; None if the host does not say.
    plain: the request as it was before ours began, to be made without us; None if it is not wanted.
    is_counted: whether the host's progress counts the plain pictures.
    """

    settings: Settings
    persons: tuple[person.Person, ...]
    is_api: bool
    reports: infotext.Reports = field(default_factory=infotext.Reports)
    pictures: dict[int, Picture] = field(default_factory=dict)
    batch: int | None = None
    sampled: int | None = None
    plain: Any = None
    is_counted: bool = False

    @property
    def shows_mask(self) -> bool:
        """Whether masks are appended; the host's setting is about the page alone."""
        return self.settings.show_mask or (not self.is_api and host_settings.always_shows_mask())

    def begin_picture(self, batch: int, index: int) -> int:
        """The position in the request of picture `index` of the batch."""
        if batch != self.batch:
            self.batch, self.reports.first = batch, max(self.pictures, default=-1) + 1
        return self.reports.first + index


def add_picture(p: Any, run: Run, output: Output, image: Image.Image) -> None:
    """Measure a finished picture, keep its mask, and find what it lacks."""
    position = output.begin_picture(p.iteration, p.batch_index)
    if output.sampled is not None and p.batch_index >= output.sampled:
        report = infotext.Report(mask_coverage=None, note=ELSEWHERE)
        picture = Picture(image, checksum(image), report, None, None, is_elsewhere=True)
    else:
        picture = describe_picture(p, run, output, image, position)
    output.pictures[position] = picture
    measure(picture, output)
    output.reports.put(position, picture.report)


def describe_picture(p: Any, run: Run, output: Output, image: Image.Image, position: int) -> Picture:
    """A picture that was sampled here: its mask, and what it lacks."""
    lack = find_shortfall(run.plan, run.report.batch, p.batch_index, is_interrupted())
    box, mask = pasted_at(p, image), run.report.mask_of(p.batch_index)
    of_lines = [run.report.refined.get(line.name, ()) for line in run.plan.lines]
    refined = tuple(any(of_line[p.batch_index : p.batch_index + 1]) for of_line in of_lines)
    picture = Picture(image, checksum(image), infotext.Report(), None, lack, refined=refined)
    if box is None:
        known = run.report.heads.get(p.batch_index, {})
        picture.heads = tuple(known.get(line.name) for line in run.plan.lines)
    if output.shows_mask or host_settings.saves_masks():
        is_grey = output.is_api
        picture.mask = previews.plain_mask(mask, image.size, box) if is_grey else previews.heat_map(image, mask, box)
        if not is_grey:
            previews.write_caption(picture.mask, f"mask of picture {position + 1}")
    share = box[2] * box[3] / (image.width * image.height) if box else 1.0
    picture.report["mask_coverage"] = 0.0 if mask is None else float(mask.mean()) * share
    if lack is not None:
        picture.report["note"] = lack.note
    return picture


def measure(picture: Picture, output: Output) -> None:
    """Write into the report how similar and how large each person's face is."""
    pixels, persons = np.asarray(picture.image.convert("RGB")), output.persons
    analyser = persons[0].analyser
    if analyser is None:
        picture.report.update(similarity=None, face_area=None)
        return
    if len(persons) == 1:
        found = reports.compare(pixels, persons[0].identity, analyser)
        picture.report.update(similarity=found.similarity, face_area=found.face_area)
        return
    heads = picture.heads or (None,) * len(persons)
    several = reports.compare_persons(pixels, [each.identity for each in persons], analyser, heads)
    least = min(several.persons, key=lambda each: -2.0 if each.similarity is None else each.similarity)
    picture.report.update(
        similarity=least.similarity,
        face_area=least.face_area,
        persons=[asdict(each) for each in several.persons],
        faces_found=len(several.cosines),
        faces_expected=len(persons),
        cosines=several.cosines,
        swapped=several.is_swapped,
    )


def pasted_at(p: Any, image: Image.Image) -> previews.Box | None:
    """The sampled part of the finished picture ("Only masked") as x, y, width, height; None: all of it."""
    overlays = getattr(p, "overlay_images", None)
    box = getattr(p, "paste_to", None)
    if not box or not overlays or image.size != overlays[0].size:
        return None  # the host did not paste: the picture is the sampled part itself
    return tuple(box)


def checksum(image: Image.Image) -> int:
    return zlib.crc32(image.convert("RGB").tobytes())


def find_pictures(output: Output, processed: Any) -> dict[int, int]:
    """Position in the request -> index in processed.images, for pictures that are found there.

    A picture is found by its object; if that was replaced, by its order, provided that the list has no other images (a
    grid, an inpainting mask).
    """
    by_object = {id(image): index for index, image in enumerate(processed.images)}
    first, found = processed.index_of_first_image, {}
    in_order = len(processed.images) - first == len(output.pictures)
    for order, (position, picture) in enumerate(sorted(output.pictures.items())):
        index = by_object.get(id(picture.image))
        if index is None and in_order:
            index = first + order
        if index is not None:
            found[position] = index
    return found


def tell_changes(p: Any, output: Output, processed: Any, found: dict[int, int]) -> list[str]:
    """Measure again the pictures that changed after their report; a sentence for each saved file with an old report.

    Reports and texts of the answer are corrected; files that the host has saved keep the earlier value.
    """
    saves, sentences = saves_pictures(p), []
    for position, index in found.items():
        picture, image = output.pictures[position], processed.images[index]
        if checksum(image) == picture.checksum:
            continue
        before = str(picture.report)
        picture.image, picture.checksum = image, checksum(image)
        measure(picture, output)
        now = str(picture.report)
        mend_texts(processed, processed.index_of_first_image + position, image, before, now)
        if saves and now != before:
            sentences.append(
                f"Another extension changed picture {position + 1} after the web UI had saved it: the file's infotext "
                f'says "{before}", the picture is now "{now}".'
            )
    return sentences


def saves_pictures(p: Any) -> bool:
    """Whether the host writes this request's pictures to disk."""
    return bool(p.save_samples()) if hasattr(p, "save_samples") else True


def mend_texts(processed: Any, at: int, image: Image.Image, before: str, now: str) -> None:
    if at < len(processed.infotexts):
        processed.infotexts[at] = processed.infotexts[at].replace(before, now)
    if "parameters" in image.info:
        image.info["parameters"] = image.info["parameters"].replace(before, now)
    if processed.infotexts:
        processed.info = processed.infotexts[0]


def tell_lacks(output: Output) -> list[str]:
    """One sentence for each kind of shortfall in the request's pictures, and for persons that look swapped; none where
    a warning explains it already."""
    by_lack: dict[Shortfall, list[int]] = {}
    for position, picture in sorted(output.pictures.items()):
        if picture.lack is not None and picture.lack.sentence:
            by_lack.setdefault(picture.lack, []).append(position)
    sentences = [lack.tell(positions, len(output.pictures)) for lack, positions in by_lack.items()]
    swapped = [str(position + 1) for position, each in sorted(output.pictures.items()) if each.report.get("swapped")]
    if swapped:
        sentences.append(
            f'The persons in picture {", ".join(swapped)} look swapped; give each a "position", or subject words that '
            "mean this person alone."
        )
    return sentences
