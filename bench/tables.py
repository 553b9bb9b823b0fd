"""Records to rows, rows to JSON and markdown: means with 95% intervals, paired differences, what was to be reached."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import intervals
from bench.intervals import Estimate
from bench.methods import METHODS, Method
from bench.records import Record

PROMPT = ("shot_accuracy", "scene_accuracy", "action_accuracy")
# Of the pairs that ask for it: the column of each kind.
ASKED_BY = {
    "item": "object_accuracy",
    "modifier": "modifier_accuracy",
    "expression": "expression_accuracy",
    "accessory": "accessory_accuracy",
}
ASKED = tuple(ASKED_BY.values())
OUTSIDE = ("outside_change", "outside_share", "outside_ssim")
COLUMNS = (*PROMPT, "similarity", *OUTSIDE, "attribute_accuracy", "close_up", "face_area", "unet_rows", "seconds")
MORE_COLUMNS = (*ASKED, "found", "ceiling", "attribute_ceiling", "flicker", "coverage", "warnings")
COMPARED = (*PROMPT, *ASKED, "close_up", "similarity", "attribute_accuracy", *OUTSIDE, "unet_rows")
AREA_EDGES = (0.0, 0.03, 0.045, 0.06, 0.08, 0.15, 1.0)  # a full shot's head fills about 0.056, a half shot's 0.12
RIVALS = ("single_line", "single_line_late", "saliency_only")
DETAILERS = ("detailer", "late_detailer")
# How far a column may fall below plain's, by the paired interval, and what similarity and change are to be.
MARGINS = dict.fromkeys((*PROMPT, "object_accuracy"), 0.03) | {"expression_accuracy": 0.08, "accessory_accuracy": 0.08}
SHARE_OF_CEILING, MOST_CHANGE, AHEAD, MORE_ROWS = 0.92, 2.8, 0.08, 6
QUICK_NAMES = {"full_shot": "shot_accuracy"}  # as README's first table calls it
QUICK_COLUMNS = ("full_shot", "close_up", "similarity", "scene_accuracy", "action_accuracy")


def column(records: list[Record], name: str) -> np.ndarray | None:
    """One value a pair, of the pairs that have one; None where no pair has (a mask, without a mask)."""
    values = [record[name] for record in records if record[name] is not None]
    return np.array(values, np.float64) if values else None


def put(row: dict[str, Any], name: str, estimate: Estimate | None) -> None:
    row[name], row[f"{name}_ci"] = (None, None) if estimate is None else estimate.rounded()


def row_of(method: str, records: list[Record]) -> dict[str, Any]:
    """A method's row: every column and its interval; then what is made of two columns."""
    row: dict[str, Any] = {"method": method, "n": len(records)}
    for name in (*COLUMNS, *MORE_COLUMNS):
        values = column(records, name)
        put(row, name, None if values is None else intervals.mean(values))
        if values is not None and len(values) < len(records):
            row[f"{name}_n"] = len(values)
    scene, similarity, ceiling = (
        np.array([r[k] for r in records]) for k in ("scene_accuracy", "similarity", "ceiling")
    )
    put(row, "scene_times_similarity", intervals.product(scene, similarity))
    put(row, "similarity_of_ceiling", intervals.ratio(similarity, ceiling))
    more, apart = column(records, "angle_more"), column(records, "angle_photos")
    put(row, "copying", None if more is None or apart is None else intervals.ratio(more, apart))
    return row


def differences(by_method: dict[str, list[Record]], name: str, base: str) -> dict[str, Any]:
    """name minus base in every compared column, over the pairs that both have."""
    ones, others = ({record["pair"]: record for record in by_method[method]} for method in (name, base))
    both = sorted(ones.keys() & others.keys())
    row: dict[str, Any] = {"method": name, "base": base, "n": len(both)}
    for key in COMPARED:
        known = [i for i in both if ones[i][key] is not None and others[i][key] is not None]
        a, b = ([records[i][key] for i in known] for records in (ones, others))
        put(row, key, intervals.difference(np.array(a), np.array(b)) if known else None)
    return row


def by_area(records: list[Record]) -> list[dict[str, Any]]:
    """Similarity and its ceiling binned by the found face's share of the picture."""
    areas = np.array([record["face_area"] for record in records])
    bins = []
    for low, high in zip(AREA_EDGES[:-1], AREA_EDGES[1:], strict=True):
        inside = [record for record, area in zip(records, areas, strict=True) if low < area <= high]
        entry: dict[str, Any] = {"above": low, "to": high, "n": len(inside)}
        for key in ("similarity", "ceiling"):
            values = column(inside, key)
            put(entry, key, intervals.mean(values) if inside and values is not None else None)
        bins.append(entry)
    return bins


def to_content(
    by_method: dict[str, list[Record]], about: dict[str, Any], beside: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The JSON file: the ceiling is that of BeyondFacial's heads where it was measured, else of the last method's.

    beside: the content of a table of pairs that all ask for something, which tells more of that than these pairs.
    """
    rows = [row_of(name, records) for name, records in by_method.items()]
    defaults = next((row for row in rows if row["method"] == "beyondfacial"), rows[-1])
    against = [(name, base) for base in ("beyondfacial", "plain") for name in by_method if name != base]
    against += [(name, METHODS[name].base) for name in by_method if name in METHODS and not METHODS[name].is_plain]
    known = [pair for pair in dict.fromkeys(against) if pair[1] in by_method]
    content = {
        "similarity_ceiling": defaults["ceiling"],
        "rows": rows,
        "differences": [differences(by_method, name, base) for name, base in known],
        "by_face_area": {name: by_area(records) for name, records in by_method.items()},
        "about": about,
    }
    return {**content, "reached": reached(content, beside)}


def asked_alone(content: dict[str, Any]) -> dict[str, Any]:
    """Of a table of pairs that all ask for one thing: what BeyondFacial's difference to plain is in it."""
    name = ASKED_BY[content["about"]["asks"]]
    row = next(d for d in content["differences"] if (d["method"], d["base"]) == ("beyondfacial", "plain"))
    return {key: row[key] for key in (name, f"{name}_ci")}


def reached(content: dict[str, Any], beside: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What BeyondFacial is to reach, the value, and whether it does."""
    rows = {row["method"]: row for row in content["rows"]}
    defaults = rows.get("beyondfacial")
    if defaults is None:
        return []
    goals = []

    def goal(text: str, value: Any, ok: bool) -> None:
        goals.append({"goal": text, "value": value, "reached": bool(ok)})

    against = {(d["method"], d["base"]): d for d in content["differences"]}
    if change := against.get(("beyondfacial", "plain")):
        change = change | (asked_alone(beside) if beside else {})
        for key, margin in MARGINS.items():
            if change[key] is not None:
                ci = change[f"{key}_ci"]
                goal(f"{key} not below plain's by more than {margin}", [change[key], ci], ci[0] >= -margin)
        ci = change["close_up_ci"]
        goal("close_up not above plain's by more than 0.02", [change["close_up"], ci], ci[1] <= 0.02)
    share = defaults["similarity_of_ceiling"]
    what = f"similarity at least {SHARE_OF_CEILING} of the ceiling"
    goal(what, [share, defaults["similarity_of_ceiling_ci"]], share >= SHARE_OF_CEILING)
    if (moved := defaults["outside_change"]) is not None:
        what = f"change outside the head at most {MOST_CHANGE} of 255"
        goal(what, [moved, defaults["outside_change_ci"]], moved <= MOST_CHANGE)
    for rival in (rows[name] for name in RIVALS if name in rows):
        low, high = defaults["scene_times_similarity_ci"][0], rival["scene_times_similarity_ci"][1]
        goal(f"scene x similarity ahead of {rival['method']}, intervals apart", [low, high], low > high)
    for name in DETAILERS:
        if behind := against.get((name, "beyondfacial")):
            lead, more = -behind["similarity"], -behind["unet_rows"]
            is_apart = defaults["similarity_ci"][0] > rows[name]["similarity_ci"][1]
            what = f"similarity ahead of {name} by {AHEAD}, intervals apart, at {MORE_ROWS} more rows at most"
            goal(what, [round(lead, 4), round(more, 2)], lead >= AHEAD and is_apart and more <= MORE_ROWS)
    return goals


def cell(row: dict[str, Any], name: str, digits: int = 2) -> str:
    if row[name] is None:
        return "-"
    low, high = row[f"{name}_ci"]
    return f"{row[name]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def grid(head: list[str], lines: list[list[str]]) -> str:
    text = ["| " + " | ".join(line) + " |" for line in [head, *lines]]
    return "\n".join([text[0], "|" + "---|" * len(head), *text[1:]]) + "\n"


def to_markdown(content: dict[str, Any], methods: dict[str, Method]) -> str:
    """For readers: the table, the differences, the goals, and what the methods are."""
    rows, about = content["rows"], content["about"]
    facts = ", ".join(f"{key} {value}" for key, value in about.items())
    columns = [*COLUMNS, *ASKED, "flicker", "copying", "scene_times_similarity", "similarity_of_ceiling"]
    digits = {"face_area": 3, "unet_rows": 1, "outside_share": 3, "outside_ssim": 3}
    parts = [
        f"# Methods side by side, split {about['split']}\n",
        "Dollhouse, a toy world of drawn persons. Means over the same pairs of person, prompt and seed, with 95% "
        "bootstrap intervals; similarity by a second recogniser that the adapter never saw, a missed face counts 0. "
        "unet_rows and seconds are per picture, persons already analysed. outside_*: to the plain picture of the same "
        "prompt and seed, outside both pictures' heads (1.8 boxes): mean change of 255, share of the pixels that "
        "changed by more than 16, structural similarity. object, modifier, expression, accessory: of the "
        "pairs whose prompt asks for one. copying: 1 where the reference photo was copied, 0 where another photo of "
        "the person is as near.\n",
        f"Similarity ceiling, the true person drawn at the found head's size through the VAE: "
        f"{content['similarity_ceiling']:.3f}. {facts}.\n",
        grid(
            ["method", "n", *columns],
            [[row["method"], str(row["n"]), *(cell(row, c, digits.get(c, 2)) for c in columns)] for row in rows],
        ),
    ]
    for base in dict.fromkeys(d["base"] for d in content["differences"]):
        lines = [
            [d["method"], str(d["n"]), *(cell(d, c, 3) for c in COMPARED)]
            for d in content["differences"]
            if d["base"] == base
        ]
        parts += [f"Difference to {base}, paired:\n", grid(["method", "n", *COMPARED], lines)]
    if content["reached"]:
        lines = [[g["goal"], str(g["value"]), "yes" if g["reached"] else "**no**"] for g in content["reached"]]
        parts += ["What beyondfacial is to reach:\n", grid(["goal", "value", "reached"], lines)]
    lines = [[row["method"], methods[row["method"]].says] for row in rows if row["method"] in methods]
    parts += ["The methods:\n", grid(["method", "what it is"], lines)]
    return "\n".join(parts)


README_ROWS = {  # the methods of README's table, by the names that it gives them
    "plain": "plain picture",
    "single_line": "adapter by itself",
    "single_line_late": "adapter by itself, late",
    "detailer": "plain picture, then a detailer",
    "late_detailer": "adapter late, then a detailer",
    "beyondfacial": "**BeyondFacial**",
}
README_COLUMNS = {"shot_accuracy": "shot as asked", "scene_accuracy": "scene as asked"}
README_KEPT = {
    "object_accuracy": "things held",
    "expression_accuracy": "expressions",
    "accessory_accuracy": "accessories",
}
MARKS = (
    "<!-- MEASURED FIGURES: begin (from bench.quality, by the run that wrote them; nothing else goes here) -->\n",
    "<!-- MEASURED FIGURES: end -->",
)


def to_readme(content: dict[str, Any]) -> str:
    """README's table of the held-out split, and what each row is to be read against."""
    rows, about = {row["method"]: row for row in content["rows"]}, content["about"]
    defaults = rows["beyondfacial"]
    sampling = about["sampling"]
    share, (low, high) = defaults["similarity_of_ceiling"], defaults["similarity_of_ceiling_ci"]
    lines = []
    for row, name in ((rows[method], name) for method, name in README_ROWS.items() if method in rows):
        measured = [cell(row, "similarity"), cell(row, "outside_change")]
        lines.append([name, str(row["n"]), *(f"{row[column]:.2f}" for column in README_COLUMNS), *measured])
    missed = [missed_in_words(goal, rows) for goal in content["reached"] if not goal["reached"]]
    not_reached = "\nAimed at and **not** reached:\n\n" + "".join(f"- {each}\n" for each in missed) if missed else ""
    return (
        "**This is a toy world** (Dollhouse); these figures say nothing about photographs. "
        f'{defaults["n"]} persons whom no tuning run has seen, prompts such as "picture of a guy sprinting on the '
        f'dunes, full body", the same seeds in each row, {sampling["sampler_name"]}, {sampling["steps"]} steps, '
        f"CFG {sampling['cfg_scale']:g}; means, in brackets 95% intervals.\n\n"
        + grid(["", "pictures", *README_COLUMNS.values(), "similarity", "change of the rest"], lines)
        + "\nLate: after a fifth of the steps. A detailer: the head of the finished picture redrawn with the adapter, "
        "as ADetailer does. Similarity: to the person, by a second recogniser that the adapter never saw; a missed "
        f"face counts 0. A perfect copy would score {content['similarity_ceiling']:.2f}; BeyondFacial reaches "
        f"{100 * share:.0f}% of that ({100 * low:.0f} to {100 * high:.0f}). Change: from the plain picture of the "
        "same seed, outside the heads; 255 is black to white.\n"
        + not_reached
        + "\nAll rows and columns: [bench/results/quality_heldout.md](bench/results/quality_heldout.md).\n"
    )


def missed_in_words(goal: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str:
    """A missed goal for README's readers, with its numbers; as it is where README has no plainer words for it."""
    text, value, ours = goal["goal"], goal["value"], rows["beyondfacial"]
    if kept := README_KEPT.get(text.split()[0]):
        change, (low, high) = value
        margin = float(text.split()[-1])
        return (
            f"{kept} as often as in the plain picture, at most {margin:g} less: the difference is {change:.3f} "
            f"({low:.3f} to {high:.3f}), so the interval's end misses by {-margin - low:.3f}."
        )
    rival = next((name for name in DETAILERS if f"ahead of {name} by" in text), "")
    if rival and rows[rival]["outside_change"]:
        other = rows[rival]
        changes, work = other["outside_change"] / ours["outside_change"], other["unet_rows"] / ours["unet_rows"]
        return (
            f'similarity {AHEAD:g} above "{README_ROWS[rival]}": that has {other["similarity"]:.2f}, BeyondFacial '
            f"{ours['similarity']:.2f}; but that changes the rest {changes:.1f} times as much, for "
            f"{work - 1:.0%} more work of the graphics card."
        )
    return f"{text}."


def put_into(readme: str, text: str) -> str:
    """The README with a text between its marks."""
    before, rest = readme.split(MARKS[0])
    return before + MARKS[0] + text + MARKS[1] + rest.split(MARKS[1])[1]


def quick_rows(by_method: dict[str, list[Record]]) -> list[dict[str, Any]]:
    """README's small table."""
    rows = []
    for method, records in by_method.items():
        row: dict[str, Any] = {"method": method, "n": len(records)}
        for name in QUICK_COLUMNS:
            values = column(records, QUICK_NAMES.get(name, name))
            put(row, name, None if values is None else intervals.mean(values))
        rows.append(row)
    return rows


def quick_markdown(rows: list[dict[str, Any]]) -> str:
    cells = [[f"{r[c]:.2f} ({r[c + '_ci'][0]:.2f}-{r[c + '_ci'][1]:.2f})" for c in QUICK_COLUMNS] for r in rows]
    head = ["method", "n", *QUICK_COLUMNS]
    return grid(head, [[r["method"], str(r["n"]), *line] for r, line in zip(rows, cells, strict=True)])
