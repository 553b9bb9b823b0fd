"""The same pictures without us, behind ours: same seeds, prompts and other extensions, for comparison."""

from __future__ import annotations

import copy
from typing import Any

from ..hosts.model import is_interrupted
from ..settings import PREFIX, Settings
from . import forwarding, infotext, neighbours, previews
from .failures import add_comment
from .pictures import Output

ARRANGED = 'The script "{title}" arranges the pictures itself, so the plain picture was not made.'
FORWARDED = "Another extension sends parts of this request to other machines, so the plain picture was not made."
DRAWN_BY_UNIT = (
    "A ControlNet unit draws the person, and would act in the plain picture, too, so that was not made; to compare, "
    "generate once more with the unit and BeyondFacial off."
)
STOPPED = "The run was stopped, so the plain picture was not made."
CAPTION = "picture {} without BeyondFacial"


def copy_before(p: Any, settings: Settings) -> tuple[Any, list[str]]:
    """In process(), before ours begins: a copy of `p` to be processed again, or None, with the reason as a warning."""
    if not settings.plain_picture or getattr(p, "_ad_inner", False):  # ADetailer shows no picture of its inner jobs
        return None, []
    if title := neighbours.running_script(p):
        return None, [ARRANGED.format(title=title)]
    if forwarding.is_forwarded(p):
        return None, [FORWARDED]
    if any(each.controlnet_unit is not None for each in settings.each_person()):
        return None, [DRAWN_BY_UNIT]
    again = copy.copy(p)
    for name in [name for name, value in vars(p).items() if is_wrapped(p, name, value)]:
        del again.__dict__[name]
    written = p.extra_generation_params
    again.extra_generation_params = {key: value for key, value in written.items() if not key.startswith(PREFIX)}
    again.override_settings = dict(getattr(p, "override_settings", None) or {})
    return again, []


def is_wrapped(p: Any, name: str, value: Any) -> bool:
    """Whether an extension has put this attribute on `p` to wrap a method of it: the wrapper, or the method itself."""
    return callable(getattr(type(p), name, None)) or getattr(value, "__self__", None) is p


def count_jobs(output: Output) -> None:
    """The host's progress counts the plain pictures from the first picture on."""
    from modules import shared

    if output.plain is not None and not output.is_counted:
        output.is_counted = True
        shared.state.job_count = max(shared.state.job_count, 1) * 2


def add_plain(p: Any, output: Output, processed: Any) -> bool:
    """In postprocess(), when ours has ended: make the plain pictures and append them, each with its caption.

    Returns whether any were made.
    """
    again, output.plain = output.plain, None
    if again is None:
        return False
    if is_interrupted() or len(output.pictures) < len(p.all_seeds):
        add_comment(p, STOPPED, processed)
        return False
    made = make_again(p, again)
    first, texts = len(processed.images), made.infotexts[made.index_of_first_image :]
    processed.infotexts += [processed.info] * (first - len(processed.infotexts))  # for pictures of other extensions
    pictures = made.images[made.index_of_first_image :][: len(output.pictures)]
    for number, (picture, text) in enumerate(zip(pictures, texts, strict=False), 1):
        image = picture.copy()
        if not output.is_api:
            previews.write_caption(image, CAPTION.format(number))
        image.info["parameters"] = f"{text}, {infotext.PLAIN_OF_KEY}: of picture {number}"
        processed.images.append(image)
        processed.infotexts.append(image.info["parameters"])
    if output.is_api:
        places = list(range(first, len(processed.images)))
        processed.extra_generation_params = {**processed.extra_generation_params, infotext.PLAIN_KEY: places}
    return True


def make_again(p: Any, again: Any) -> Any:
    """Process the copy without us, with the seeds and prompts that `p` ended with; nothing is saved."""
    from modules import processing

    ours = forwarding.find_script(p)
    args = list(p.script_args)
    args[ours.args_from : ours.args_to] = [{"enabled": False}, *[None] * (ours.args_to - ours.args_from - 1)]
    again.script_args = tuple(args) if isinstance(p.script_args, tuple) else args
    again.seed, again.subseed = list(p.all_seeds), list(getattr(p, "all_subseeds", None) or p.all_seeds)
    again.prompt, again.negative_prompt = list(p.all_prompts), list(p.all_negative_prompts)
    for name in ("hr_prompt", "hr_negative_prompt"):
        if listed := getattr(p, f"all_{name}s", None):
            setattr(again, name, list(listed))
    again.styles = []  # they are in the prompts by now
    again.do_not_save_samples = again.do_not_save_grid = True
    return processing.process_images(again)
