"""The quality table: methods side by side on the same persons, prompts and seeds, judged by Dollhouse's own judges.

    python -m bench.quality                                    200 tuning pairs, every method of the table -> bench/out
    python -m bench.quality --split heldout --pairs 600        the release's table and records -> bench/results
    python -m bench.quality --split heldout --subset 50 --seed 1    a random part made anew, against these records
    python -m bench.quality --quick                            README's small table: 64 pairs, three methods
    python -m bench.quality --split heldout --methods fast --name fast    a table beside it, without plots of its own
    python -m bench.quality --split heldout --asks item --methods plain beyondfacial --name objects    of things held
    python -m bench.quality --methods plain beyondfacial --set strong:weight=3,rho=1.5 hard@argmax_in_region

Runs through the embedded host, with plans of its own (bench/painter.py). Records are kept in bench/cache, so a run
that was ended goes on where it stopped; `--shard 1/4` to `4/4` fill that cache in four processes, a run without it
writes.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench import plots, subset, tables
from bench.collect import BATCH, PICTURES_KEPT, Bench, in_order
from bench.methods import GROUPS, METHODS, QUICK, Method, parse_method
from bench.painter import REPOSITORY, Sampling
from bench.pairs import Pair, make_batches, make_pairs
from bench.records import Record, hash_weights, read_records, write_records

RESULTS, OUT = REPOSITORY / "bench" / "results", REPOSITORY / "bench" / "out"
PAIRS = {"tuning": 200, "heldout": 600}
QUICK_PAIRS = 64
OBJECTS = "objects"  # the name of the table of pairs that ask for something held


def parse_shard(text: str) -> tuple[int, int]:
    part, _, whole = text.partition("/")
    if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; the second of four is 2/4.")
    return int(part) - 1, int(whole)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and how a table is made, and where it is written."""
    parser.add_argument("--out", type=Path, help="bench/results for held-out, else bench/out")
    parser.add_argument("--batch", type=int, help="pairs painted at once; 4 on the CPU, 32 on a GPU")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU; bit-equal pictures want the same")
    parser.add_argument("--shard", type=parse_shard, metavar="I/N", help="fill the cache with the i-th of n parts")
    parser.add_argument("--so-far", action="store_true", help="write what is kept of each method, make nothing")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs, {', '.join(QUICK)}; quick.json")
    parser.add_argument("--split", choices=tuple(PAIRS), default="tuning")
    parser.add_argument("--pairs", type=int, help=f"how many; {PAIRS['tuning']}, held-out {PAIRS['heldout']}")
    parser.add_argument(
        "--asks",
        default="",
        choices=("item", "expression", "accessory", "modifier"),
        help="pairs alone whose prompts ask for something of this kind",
    )
    parser.add_argument("--methods", nargs="*", choices=[*GROUPS, *METHODS], help="or groups, instead of the table")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME[@ALTERNATIVE]:KEY=VALUE,...", help="more methods"
    )
    parser.add_argument("--name", default="", help="of further files beside the table's: quality_SPLIT_NAME.json")
    add_run_arguments(parser)
    parser.add_argument("--subset", type=int, metavar="N", help="make N committed pairs anew and compare")
    parser.add_argument("--seed", type=int, default=0, help="which subset")
    parser.add_argument("--steps", type=int, default=Sampling.steps)
    parser.add_argument("--sampler", default=Sampling.sampler_name)
    parser.add_argument("--cfg-scale", type=float, default=Sampling.cfg_scale)
    parser.add_argument("--size", type=int, default=Sampling.size, help="side of the pictures, pixels")
    args = parser.parse_args(argv)
    args.pairs = args.pairs or (QUICK_PAIRS if args.quick else PAIRS[args.split])
    args.out = args.out or (RESULTS if args.split == "heldout" and not args.quick else OUT)
    return args


def chosen_methods(args: argparse.Namespace) -> list[Method]:
    """The asked ones, else quick's or the table's; the command line's own after them."""
    asked = args.methods if args.methods is not None else QUICK if args.quick else ["table"]
    names = dict.fromkeys(name for each in asked for name in GROUPS.get(each, [each]))
    return [METHODS[name] for name in names] + [parse_method(text) for text in args.set]


def facts(args: argparse.Namespace, bench: Bench, batch: int) -> dict[str, Any]:
    """What else decides what comes out."""
    return {
        "split": args.split,
        "asks": args.asks,
        "sampling": asdict(bench.sampling),
        "batch": batch,
        "device": bench.device,
        "threads": args.threads,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "weights": hash_weights()[:12],
    }


def write_quick(out: Path, records: dict[str, list[Record]]) -> str:
    rows = tables.quick_rows(records)
    (out / "quick.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    text = tables.quick_markdown(rows)
    (out / "quick.md").write_text(text, encoding="utf-8")
    return text


def write_table(
    out: Path, records: dict[str, list[Record]], about: dict[str, Any], methods: list[Method], name: str = ""
) -> str:
    """JSON, records, markdown and plots beside each other; of a named table the plot of the change alone.

    Whether things held are kept, the main table takes from the objects' one, where there is one.
    """
    is_named = bool(name)
    content = tables.to_content(records, about, None if is_named else objects_beside(out, about))
    name = "_".join(filter(None, ("quality", about["split"], name)))
    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_records(out / f"{name}_records.jsonl.gz", records)
    text = tables.to_markdown(content, {method.name: method for method in methods})
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    plots.plot_frontier(content, out / f"{name}_change.png", "outside_change")
    if is_named:
        return text
    plots.plot_frontier(content, out / f"{name}_scene.png")
    plots.plot_frontier(content, out / f"{name}_shot.png", "shot_accuracy")
    plots.plot_by_area(content, out / f"{name}_area.png")
    return text


def objects_beside(out: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """The content of the objects' table of the same split and weights."""
    path = out / f"quality_{about['split']}_{OBJECTS}.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return content if content and content["about"]["weights"] == about["weights"] else None


def write_readme(table: Path) -> None:
    """Put the committed table into README."""
    readme, content = REPOSITORY / "README.md", json.loads(table.read_text(encoding="utf-8"))
    text = tables.put_into(readme.read_text(encoding="utf-8"), tables.to_readme(content))
    readme.write_text(text, encoding="utf-8")


def draw_sheet(path: Path, bench: Bench, methods: list[Method], pairs: list[Pair]) -> None:
    pairs = pairs[:PICTURES_KEPT]
    pictures = {method.name: kept for method in methods if (kept := bench.pictures(method, pairs))}
    photos = [pair.photo for pair in pairs[: plots.COLUMNS]]
    plots.contact_sheet(pictures, photos, path)


def run_subset(args: argparse.Namespace) -> int:
    """0 where every method agrees with what was committed."""
    path = args.out / f"quality_{args.split}.json"
    if not path.exists():
        raise SystemExit(f"{path.name} is not there; compute it first, without --subset.")
    about = json.loads(path.read_text(encoding="utf-8"))["about"]
    records = read_records(args.out / f"quality_{args.split}_records.jsonl.gz")
    if about["weights"] != hash_weights()[:12]:
        print("The weights have changed since; a difference is to be expected.")
    methods = subset.methods_of(records, args.methods)
    verdicts = subset.recompute(records, about, methods, args.subset, args.seed, args.device)
    print(subset.to_markdown(verdicts))
    return 0 if all(verdict["agrees"] for verdict in verdicts.values()) else 1


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads)
    if args.subset:
        return run_subset(args)
    methods = chosen_methods(args)
    sampling = Sampling(args.steps, args.cfg_scale, args.sampler, args.size)
    kept_in = "_".join(filter(None, (args.split, args.asks)))  # other pairs, other company, other rounding
    bench = Bench(kept_in, sampling, args.device)
    batch = args.batch or BATCH.get(bench.device, 1)
    pairs = make_pairs(args.pairs, args.split, args.asks)
    batches = make_batches(pairs, batch)
    if args.shard:
        bench.collect(methods, batches[args.shard[0] :: args.shard[1]])
        return 0
    records = bench.kept(methods, batches) if args.so_far else bench.collect(methods, batches)
    if not records:
        raise SystemExit("Nothing is kept yet; run the same without --so-far.")
    methods = [method for method in in_order(methods) if method.name in records]
    args.out.mkdir(parents=True, exist_ok=True)
    about = facts(args, bench, batch)
    text = write_quick(args.out, records) if args.quick else write_table(args.out, records, about, methods, args.name)
    if args.name:
        print(text)
        return 0
    draw_sheet(args.out / ("quick.png" if args.quick else f"quality_{args.split}_pictures.png"), bench, methods, pairs)
    plots.check_size(args.out)
    if args.out == RESULTS and args.split == "heldout" and not args.quick and args.methods is None:
        write_readme(args.out / "quality_heldout.json")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
