"""The table of two persons in one picture: the ways to draw them side by side, on the same persons, prompts and seeds.

    python -m bench.persons                                    40 tuning pairs of each kind -> bench/out
    python -m bench.persons --split heldout --pairs 200 --one 100    the release's table and records -> bench/results

Kinds: persons assigned by subject words ("a man and a woman"), by position ("two men"), one photo where two people are
asked for, and four such requests. Records are kept in bench/cache; `--shard`, `--so-far` and `--methods` as in
bench.quality.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench import intervals, plots
from bench.collect import BATCH, Bench
from bench.methods import METHODS, REFINE_ONLY, Method
from bench.painter import Sampling
from bench.pairs import make_batches
from bench.people import ASSIGN, REQUEST, SEEDS, make_people
from bench.people_judges import PeopleJudges
from bench.quality import OUT, RESULTS, facts, parse_shard
from bench.records import CACHE, Record, hash_sources, write_records
from bench.tables import cell, column, grid, put

PERSONS = {
    "plain": METHODS["plain"],
    "single_line": replace(METHODS["single_line"], says="both persons' tokens in the one line, weight 1"),
    "detailers": replace(METHODS["detailer"], name="detailers", says="plain, then a detailer's pass at each head"),
    "detailers_refined": replace(
        METHODS["detailer_refined"], name="detailers_refined", says="the same, redrawn as the refinement does"
    ),
    "beyondfacial": METHODS["beyondfacial"],
    "refine_only": Method("refine_only", "lines only from the refinement on", REFINE_ONLY, "no_mask"),
}
PAIRS = {"tuning": 40, "heldout": 200}
REQUESTED = Sampling(steps=8, sampler_name="Euler")
SOURCES = ("bench/people.py", "bench/people_judges.py")
SLOTS = ("first", "second")
EXPLAINED = """\
Dollhouse, a toy world. Means with 95% bootstrap intervals; a missed face counts 0. swapped: of the pictures with both
faces, those whose faces are more like each other's person. leak: the highest similarity of a face to the person that
it was not given. id_conf: 1 where every face is like one person alone. leak_other: with one photo, the similarity of
the other face to that person; leak_other_plain: of the same place in the plain picture.
"""
OF_SLOTS = ("similarity_first", "similarity_second")
COLUMNS = ("count_accuracy", "similarity", *OF_SLOTS, "swapped", "leak", "id_conf", "shot_accuracy", "scene_accuracy")
COLUMNS += ("action_accuracy", "outside_change", "outside_share", "outside_ssim", "unet_rows", "seconds", "ceiling")
OF_ONE = ("leak_other", "leak_other_plain", "similarity_chosen")
TO_PLAIN = ("count_accuracy", "shot_accuracy", "scene_accuracy", "action_accuracy")
Collected = dict[str, dict[str, list[Record]]]  # by kind and method


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=tuple(PAIRS), default="tuning")
    parser.add_argument("--pairs", type=int, help=f"of each kind; {PAIRS['tuning']}, held-out {PAIRS['heldout']}")
    parser.add_argument("--one", type=int, help="of those with one photo; half as many")
    parser.add_argument("--methods", nargs="*", choices=PERSONS, default=list(PERSONS))
    parser.add_argument("--assign", nargs="*", choices=ASSIGN, default=list(ASSIGN), help="which kinds")
    parser.add_argument("--out", type=Path, help="bench/results for held-out, else bench/out")
    parser.add_argument("--batch", type=int, help="pairs painted at once; 4 on the CPU, 32 on a GPU")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--shard", type=parse_shard, metavar="I/N", help="fill the cache with the i-th of n parts")
    parser.add_argument("--so-far", action="store_true", help="write what is kept of each method, make nothing")
    args = parser.parse_args(argv)
    args.pairs = args.pairs or PAIRS[args.split]
    args.one = args.pairs // 2 if args.one is None else args.one
    args.out = args.out or (RESULTS if args.split == "heldout" else OUT)
    return args


def make_bench(args: argparse.Namespace, kind: str, before: Bench | None = None) -> Bench:
    """Where the records of one kind are made; all kinds share the host."""
    cache = CACHE / f"persons_{hash_sources(SOURCES)[:8]}"
    sampling = REQUESTED if kind == "requests" else Sampling()
    bench = Bench(f"{args.split}_{kind}", sampling, args.device, cache, PeopleJudges.load)
    if before is not None:
        bench._painter, bench._judges = before._painter, before._judges
        if bench._painter is not None:
            bench._painter.sampling = sampling
    return bench


def collect(args: argparse.Namespace) -> tuple[Collected, Bench]:
    methods, bench, collected = [PERSONS[name] for name in args.methods], None, {}
    for kind in args.assign:
        bench = make_bench(args, kind, bench)
        counts = {"one": args.one, "requests": len(SEEDS)}
        pairs = make_people(counts.get(kind, args.pairs), args.split, kind)
        batches = make_batches(pairs, args.batch or BATCH.get(bench.device, 1))
        if args.shard:
            batches = batches[args.shard[0] :: args.shard[1]]
        collected[kind] = bench.kept(methods, batches) if args.so_far else bench.collect(methods, batches)
    assert bench is not None
    return collected, bench


def row_of(method: str, assign: str, records: list[Record], of_one: list[Record]) -> dict[str, Any]:
    """A method's row; of_one: its records of one photo, from which what the other face has of the person is told."""
    row: dict[str, Any] = {"method": method, "assign": assign, "n": len(records)}
    for name in COLUMNS:
        values = column(records, name)
        put(row, name, None if values is None else intervals.mean(values))
    for name, ceiling in (("similarity", "ceiling"), *((f"similarity_{n}", f"ceiling_{n}") for n in SLOTS)):
        a, b = column(records, name), column(records, ceiling)
        assert a is not None
        assert b is not None
        put(row, f"{name}_of_ceiling", intervals.ratio(a, b))
    known = [
        record for record in of_one if record["leak_other"] is not None and record["leak_other_plain"] is not None
    ]
    for name in OF_ONE:
        values = column(known, name)
        put(row, name, None if values is None else intervals.mean(values))
    both = [column(known, name) for name in OF_ONE[:2]]
    change = intervals.difference(*both) if known else None  # type: ignore[arg-type]
    put(row, "leak_other_difference", change)
    return row | {"leak_other_n": len(known)}


def to_content(collected: Collected, about: dict[str, Any]) -> dict[str, Any]:
    one = collected.get("one", {})
    kinds = {kind: of_kind for kind, of_kind in collected.items() if kind in ("subject", "position")}
    rows = [
        row_of(name, kind, records, one.get(name, []))
        for kind, of_kind in kinds.items()
        for name, records in of_kind.items()
    ]
    defaults = next((row for row in rows if row["method"] == "beyondfacial"), rows[-1])
    against = [
        difference(kind, name, of_kind)
        for kind, of_kind in kinds.items()
        for name in of_kind
        if name != "plain" and "plain" in of_kind
    ]
    content = {"similarity_ceiling": defaults["ceiling"], "rows": rows, "differences": against, "about": about}
    content["requests"] = [
        {"method": name, "seed": SEEDS[record["pair"]], **{key: record[key] for key in OF_ONE}}
        for name, records in collected.get("requests", {}).items()
        for record in records
    ]
    return {**content, "reached": reached(content)}


def difference(kind: str, name: str, by_method: dict[str, list[Record]]) -> dict[str, Any]:
    """A method minus plain, over the pairs that both have."""
    ones, others = ({record["pair"]: record for record in by_method[each]} for each in (name, "plain"))
    both = sorted(ones.keys() & others.keys())
    row: dict[str, Any] = {"method": name, "assign": kind, "base": "plain", "n": len(both)}
    for key in TO_PLAIN:
        a, b = (column([records[i] for i in both], key) for records in (ones, others))
        put(row, key, intervals.difference(a, b))  # type: ignore[arg-type]
    return row


def reached(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What beyondfacial is to reach, by subject words and by position."""
    goals = []
    for row in (row for row in content["rows"] if row["method"] == "beyondfacial"):
        kind, most = row["assign"], {"subject": 0.03, "position": 0.05}[row["assign"]]
        change = next(
            (d for d in content["differences"] if (d["method"], d["assign"]) == ("beyondfacial", kind)), None
        )
        for key in TO_PLAIN if change else ():
            ok = change[f"{key}_ci"][0] >= -0.03
            goals.append((f"{kind}: {key} not below plain's by more than 0.03", change[key], ok))
        for slot in SLOTS:
            share = row[f"similarity_{slot}_of_ceiling"]
            goals.append((f"{kind}: the {slot} person at least 0.85 of the ceiling", share, share >= 0.85))
        if row["swapped"] is not None:
            goals.append((f"{kind}: swapped at most {most}", row["swapped"], row["swapped"] <= most))
        if (more := row["leak_other_difference"]) is not None:
            goals.append((f"{kind}: one photo, the other face within 0.05 of plain's", more, more <= 0.05))
    return [{"goal": text, "value": value, "reached": bool(ok)} for text, value, ok in goals]


def to_markdown(content: dict[str, Any]) -> str:
    about = ", ".join(f"{key} {value}" for key, value in content["about"].items())
    columns = [*COLUMNS[:-1], *(f"similarity{each}_of_ceiling" for each in ("", "_first", "_second")), *OF_ONE]
    columns.append("leak_other_difference")
    lines = [
        [
            row["assign"],
            row["method"],
            str(row["n"]),
            *(cell(row, name, 3 if "outside_s" in name else 2) for name in columns),
        ]
        for row in content["rows"]
    ]
    goals = [[goal["goal"], str(goal["value"]), "yes" if goal["reached"] else "**no**"] for goal in content["reached"]]
    return "\n".join(
        [
            f"# Two persons in one picture, split {content['about']['split']}\n",
            EXPLAINED,
            f"{about}.\n",
            grid(["assign", "method", "n", *columns], lines),
            f'One photo, "{REQUEST}", 384 x 192, {REQUESTED.sampler_name}, {REQUESTED.steps} steps:\n',
            grid(
                ["method", "seed", *OF_ONE], [[str(value) for value in each.values()] for each in content["requests"]]
            ),
            "What beyondfacial is to reach:\n",
            grid(["goal", "value", "reached"], goals),
            grid(["method", "what it is"], [[name, method.says] for name, method in PERSONS.items()]),
        ]
    )


def draw_sheet(args: argparse.Namespace, bench: Bench, path: Path) -> None:
    """Some pictures by position: the two photos, then every method's picture."""
    kind = args.assign[0]
    bench, pairs = make_bench(args, kind, bench), make_people(plots.COLUMNS, args.split, kind)
    pictures = {name: bench.pictures(PERSONS[name], pairs) for name in args.methods}
    photos = {word: [each.singles[k].photo for each in pairs] for k, word in enumerate(SLOTS)}
    plots.contact_sheet({SLOTS[1]: photos[SLOTS[1]], **pictures}, photos[SLOTS[0]], path)


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads)
    collected, bench = collect(args)
    if args.shard:
        return 0
    if not any(collected.get(kind) for kind in ("subject", "position")):
        raise SystemExit("Nothing is kept yet of persons by subject words or by position; run it without --so-far.")
    about = facts(args, bench, args.batch or BATCH.get(bench.device, 1))
    content = to_content(collected, about)
    args.out.mkdir(parents=True, exist_ok=True)
    name = f"persons_{args.split}"
    (args.out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    by_row = {
        f"{method}@{kind}": records for kind, of_kind in collected.items() for method, records in of_kind.items()
    }
    write_records(args.out / f"{name}_records.jsonl.gz", by_row)
    (args.out / f"{name}.md").write_text(text := to_markdown(content), encoding="utf-8")
    draw_sheet(args, bench, args.out / f"{name}_pictures.png")
    plots.check_size(args.out)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
