"""What a picture costs: rows, autoencoder, seconds and memory of ours, of the rivals and of the host alone.

    python -m bench.cost                                  all sizes -> bench/results/cost.json; hours, on one thread
    python -m bench.cost --only dollhouse --out bench/out    minutes
    python -m bench.cost --only sd15_gpu sdxl --out bench/out    wants a GPU
    python -m bench.cost --records FILE                   goes on where a run that was ended stopped

Within a size all methods take turns, so that whatever else the machine does meets them all; each answer is one line of
the record file. Seconds are CPU seconds of the process, or a GPU's, waited for before and after each network's call.
How the sizes are made is in bench/cost_models.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bench import intervals
from bench.cost_models import SIZES, Model, absent
from bench.cost_passes import hires_pass
from bench.detailer import detail, img2img_recipe
from bench.meter import Meter, clock_of, gpu_peak_of, peak_of
from bench.methods import ADETAILER, METHODS
from bench.painter import REPOSITORY, TITLE
from bench.records import CACHE, OF_OUR_PICTURES, hash_sources
from lib_beyondfacial.settings import PRESETS

RESULTS = REPOSITORY / "bench" / "results"
CFG_SCALE = 5.0
PROMPT = "photo of a man standing in the field, full body shot"
METHOD_SETTINGS: dict[str, dict[str, Any] | None] = {
    "plain": None,  # the extension is installed, and off
    "single_line": METHODS["single_line"].settings,
    "beyondfacial": {},
    "fast": PRESETS["Fast"],
    "minus_refinement": METHODS["minus_refinement"].settings,
    "detailer": None,
    "hires": None,
}
LONG = ("plain", "beyondfacial", "fast", "single_line")
SHORT = ("plain", "beyondfacial")
ABSENT = "absent"  # plain, without the extension
PAIRS_ABSENT = 20
CPU = "cpu, one thread"


@dataclass(frozen=True)
class Job:
    """One request of a size. number: of its repetition; is_memory: its memory is measured, and not its time."""

    size: str
    steps: int
    method: str
    batch: int = 1
    number: int = 0
    is_memory: bool = False


def jobs_of(size: str) -> Iterator[Job]:
    """A size's jobs in the order of their turns: what matters most first."""
    if size == "dollhouse":
        for number in range(5):
            yield from (Job(size, 10, method, 1, number) for method in METHOD_SETTINGS if method != "hires")
            yield from (Job(size, 30, method, 1, number) for method in LONG)
            yield from (Job(size, 10, method, 4, number) for method in SHORT)
        for number in range(PAIRS_ABSENT):
            yield from (Job(size, 4, method, 1, number) for method in ("plain", ABSENT))
    elif SIZES[size].on_gpu:
        yield from (Job(size, 3, method, is_memory=True) for method in ("plain", "single_line", "beyondfacial"))
        for number in range(5):
            yield from (Job(size, 30, method, 1, number) for method in METHOD_SETTINGS)
            yield from (Job(size, 30, method, 4, number) for method in SHORT)
    elif size == "sd15":
        yield from (Job(size, 30, method) for method in LONG)
        yield from (Job(size, 3, method, is_memory=True) for method in ("plain", "single_line", "beyondfacial"))
        yield from (Job(size, 8, method) for method in METHOD_SETTINGS)
    else:
        for number in range(3):
            yield from (Job(size, 8, method, 1, number) for method in LONG)
        yield from (Job(size, 8, method, 4) for method in SHORT)


def run_job(model: Model, job: Job) -> dict[str, Any]:
    """The record of one job."""
    meter = Meter(clock_of(model.device))
    record = {**asdict(job), "code": hash_sources(OF_OUR_PICTURES)[:12], "device": name_of(model.device)}
    if job.is_memory:
        measure = gpu_peak_of if model.device.type == "cuda" else peak_of
        record["peak_memory_mb"] = round(measure(lambda: paint(model, job)), 1)
        return record
    with meter.measuring(model.unet, model.vae):
        paint(model, job)
    hidden = ("inside", "clock")
    counts = {key: value for key, value in vars(meter).items() if not key.startswith("_") and key not in hidden}
    return {**record, **counts, "outside_unet": meter.outside_unet}


def name_of(device: torch.device) -> str:
    return f"{torch.cuda.get_device_name()}, bf16" if device.type == "cuda" else CPU


def paint(model: Model, job: Job) -> None:
    """One request of a method, and the pass that follows it."""
    settings = METHOD_SETTINGS.get(job.method)
    request: dict[str, Any] = {
        "prompt": [PROMPT] * job.batch, "seed": [7 + i for i in range(job.batch)], "batch_size": job.batch,
        "steps": job.steps, "cfg_scale": CFG_SCALE, "sampler_name": "DPM++ 2M",
        "width": model.size.width, "height": model.size.height,
    }  # fmt: skip
    if settings is not None:
        request["alwayson_scripts"] = {TITLE: {"args": [model.make_plan(settings)]}}
    with absent() if job.method == ABSENT else nullcontext():
        images, info = model.host.txt2img(**request)
    assert len(images) == job.batch, info
    if job.method == "hires":
        hires_pass(model, job.steps, CFG_SCALE)
    if job.method == "detailer":
        pictures = [np.asarray(image.convert("RGB")) for image in images]
        recipe = img2img_recipe(ADETAILER, job.steps, CFG_SCALE)
        detail(model.make_plan({}), pictures, request["prompt"], request["seed"], recipe)


def read_records(path: Path) -> dict[Job, dict[str, Any]]:
    """What there is already, by job."""
    records = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:  # the end of a run that was killed while it wrote
            continue
        records[Job(**{key: record[key] for key in Job.__dataclass_fields__})] = record
    return records


def collect(sizes: list[str], path: Path) -> dict[Job, dict[str, Any]]:
    """Run every job that is not in the record file yet."""
    records = read_records(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    jobs = [job for size in sizes for job in jobs_of(size)]
    model: Model | None = None
    for job in tqdm(jobs, unit="job"):
        if job in records:
            continue
        if model is None or model.size.name != job.size:
            model = Model(SIZES[job.size])
            if job.size == "dollhouse" or model.size.on_gpu:  # what is loaded once belongs to no request
                for method in dict.fromkeys(job.method for job in jobs_of(job.size)):
                    paint(model, Job(job.size, 10, method))
        records[job] = run_job(model, job)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(records[job]) + "\n")
    return records


def summarise(records: dict[Job, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each size, number of steps, batch and method: medians, and the spread of the seconds."""
    rows = []
    for key in dict.fromkeys(replace(job, number=0) for job in records if not job.is_memory):
        same = repeats_of(records, key)
        plain = repeats_of(records, replace(key, method="plain"))
        first, reference = next(iter(same.values())), next(iter(plain.values()), None)
        seconds = [record["seconds"] for record in same.values()]
        ratios = [same[n]["seconds"] / plain[n]["seconds"] for n in same.keys() & plain.keys()]
        row = {
            "method": key.method, "size": key.size, "steps": key.steps, "batch": key.batch,
            **{name: first[name] for name in ("unet_rows", "vae_decodes", "vae_encodes", "model_swaps")},
            "vae_megapixels": round(first["vae_megapixels"], 4),
            "vae_added": reference and round(first["vae_megapixels"] / reference["vae_megapixels"] - 1, 3),
            "row_ratio": reference and round(first["latent_px"] / reference["latent_px"], 4),
            "seconds": round(statistics.median(seconds), 3), "seconds_least": round(min(seconds), 3),
            "seconds_most": round(max(seconds), 3), "repeats": len(seconds),
            "ratio_to_plain": round(statistics.median(ratios), 4) if ratios else None,
            "ratio_least": round(min(ratios), 4) if ratios else None,
            "ratio_most": round(max(ratios), 4) if ratios else None,
            "ratio_ci": intervals.mean(np.array(ratios)).rounded()[1] if len(ratios) > 1 else None,
            "outside_unet": round(statistics.median(record["outside_unet"] for record in same.values()), 4),
            "peak_memory_mb": memory_of(records, key),
            "device": first.get("device", CPU),
        }  # fmt: skip
        rows.append(row)
    return rows


def repeats_of(records: dict[Job, dict[str, Any]], like: Job) -> dict[int, dict[str, Any]]:
    """The records that differ from a job in their number alone, by number."""
    return {job.number: record for job, record in records.items() if replace(job, number=0) == like}


def memory_of(records: dict[Job, dict[str, Any]], key: Job) -> float | None:
    """The peak of a method at this size, measured in fewer steps: it does not grow with them."""
    found = [
        record["peak_memory_mb"]
        for job, record in records.items()
        if job.is_memory and (job.size, job.method, job.batch) == (key.size, key.method, key.batch)
    ]
    return found[0] if found else None


def sizes_here() -> list[str]:
    """The sizes that this machine has a device for."""
    return [name for name, size in SIZES.items() if torch.cuda.is_available() or not size.on_gpu]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=tuple(SIZES), default=sizes_here(), help="these sizes")
    parser.add_argument("--records", type=Path, default=CACHE / "cost.jsonl", help="kept between runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    records = collect(args.only, args.records)
    machine = {"processor": platform.machine(), "torch": torch.__version__, "threads": 1}
    content = {
        "machine": machine,
        "code": sorted({record["code"] for record in records.values()}),
        "rows": summarise(records),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "cost.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
