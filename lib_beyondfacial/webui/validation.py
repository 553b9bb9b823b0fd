"""What a request with these settings would be told, found without generating anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from ..errors import BeyondFacialError
from ..hosts import request
from ..hosts.run import check_fits
from ..hosts.types import Processing
from ..method import head_refinement
from ..method.schedule import Schedule
from ..sampling.plan import Plan
from ..settings import BY_KEY, PERSON_KEYS, Settings, check_value
from . import loaded_model, person
from .bodies import unknown_key
from .failures import PREFIX, sentence_of
from .fitting import NoModelError
from .run import make_plan

STEPS = 20  # the hosts' default
OF_THE_REQUEST = 'A ControlNet unit is part of a request, so only the request itself can check the unit of "source".'
NOT_CHECKED = "No checkpoint is loaded yet, so it was not checked whether the adapter fits it."
CFG_ROWS = 2  # cond and uncond


def validate(given: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of POST /beyondfacial/v1/validate, for the body's object.

    problems: why a run would refuse it, all that can be told at once. warnings: what a run would warn of before it
    samples. adapter, pack: those that would be used, None where none can be. rows: what it would cost.
    """
    problems = settings_problems(given)
    answer: dict[str, Any] = {"problems": problems, "warnings": [], "adapter": None, "pack": None, "rows": None}
    if problems:
        return answer
    settings = Settings.from_script_args({**given, "enabled": True})
    if any(each.controlnet_unit is not None for each in settings.each_person()):
        answer["warnings"] = [OF_THE_REQUEST]
        return answer
    try:
        loaded = person.load_persons(settings, True, None)
        answer |= {"adapter": loaded[0].adapter.name, "pack": loaded[0].analyser.name}
        plan = make_plan(settings, *loaded)
        of_model = check_loaded_model(plan)
        answer["rows"] = count_rows(plan)
    except NoModelError as error:
        answer["warnings"] = [str(error)]
        return answer
    except BeyondFacialError as error:
        problems.append(sentence_of(error))
        return answer
    of_photos = [warning for each in loaded for warning in each.identity.warnings]
    warnings = (*of_photos, *person.warn(settings, loaded, []), *of_model)
    answer["warnings"] = [each.removeprefix(PREFIX) for each in dict.fromkeys(warnings)]
    return answer


def settings_problems(given: Mapping[str, Any]) -> list[str]:
    """A sentence for each key and value that is wrong; if each is right, on how they go together."""
    problems = [unknown_key(key, BY_KEY) for key in given if key not in BY_KEY]
    for key in given.keys() & BY_KEY.keys():
        try:
            check_value(BY_KEY[key], given[key])
        except BeyondFacialError as error:
            problems.append(str(error))
    if problems:
        return sorted(problems)
    person_given = {key: value for key, value in given.items() if key in (*PERSON_KEYS, "source", "persons")}
    for unit in ({**given, "enabled": False}, {**person_given, "enabled": True}):
        try:
            Settings.from_script_args(unit)
        except BeyondFacialError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))


def check_loaded_model(plan: Plan) -> list[str]:
    """BeyondFacialError where the plan does not fit the model that the host has loaded; a warning where none is."""
    adapter = request.host_adapter()
    job = cast(Processing, SimpleNamespace(sd_model=loaded_model.loaded_model(), prompt="", all_prompts=[""]))
    try:
        adapter.unet_of(job)
    except AttributeError:  # None, or Forge's stand-in
        return [NOT_CHECKED]
    check_fits(job, plan, adapter)
    return []


def count_rows(plan: Plan) -> dict[str, int]:
    """UNet rows of one picture of STEPS steps above CFG 1: the host's own, and the most that the identity adds.

    refinement: of one look at one head; once all heads are refined, no more identity rows run.
    """
    p = plan.parameters
    schedule = Schedule.from_levels(range(STEPS, 0, -1))
    acting = sum(schedule.in_window(level, p.start, p.stop) for level in schedule.levels) if plan.can_act else 0
    look_ahead = int(acting > 0 and p.idap_strength > 0 and len(plan.lines) == 1)
    refines = plan.refines and acting > 0
    return {
        "steps": STEPS,
        "plain": CFG_ROWS * STEPS,
        "identity": math.ceil(acting / p.stride) * len(plan.lines) + look_ahead,
        "refinement": head_refinement.rows_of_a_head() if refines else 0,
    }
