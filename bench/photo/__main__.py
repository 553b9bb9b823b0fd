"""How a person is kept in whole scenes, with real weights, on any running web UI that has this extension.

    python -m bench.photo --url http://127.0.0.1:7860 --persons DIR --out DIR [--prompts FILE]

DIR has a sub-folder for each person with two or more photos: the first (by name) is fed, the second is only judged by,
and word.txt may hold the prompt's word ("man"). The web UI must run with --api. Judged here by an insightface pack
that should be another one than what feeds the adapter (--judge). It goes on where it was ended. page.html has the
table, and pictures of these persons; result.json has neither pictures nor names.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.photo import page, summary
from bench.photo.jobs import METHODS, PROMPTS, Job, Subject, make_jobs, read_prompts, read_subjects
from bench.photo.judging import ClipScore, Known, choose_pack, is_same_pack, know, load_clip, measure
from bench.photo.webui import WebUI
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces.analysis import FaceAnalyser

RECORDS, PICTURES = "records.jsonl", "pictures"


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; 512x768 is one.")
    return int(width), int(height)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--auth", help="user:password of the web UI's --api-auth")
    parser.add_argument("--persons", type=Path, required=True, help="a folder with a sub-folder for each person")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="one a line, {person} in each; 50 by default")
    parser.add_argument("--first", type=int, help="only the first so many prompts")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", type=Path, help="a folder of .onnx files; else one that is found, of another kind")
    parser.add_argument("--models", type=Path, help="the web UI's models folder, to find face packs in")
    parser.add_argument("--clip", help="a CLIP in transformers' form: its folder, or its name in the local cache")
    parser.add_argument("--adapter", default="", help="the adapter's name; automatic")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg-scale", type=float, default=7.0)
    parser.add_argument("--sampler", default="DPM++ 2M")
    parser.add_argument("--scheduler", default="Karras")
    parser.add_argument("--size", type=parse_size, default=(512, 768), help="512x768; SDXL wants 832x1216")
    parser.add_argument("--negative", default="", help="the negative prompt")
    return parser.parse_args(argv)


def sampling_of(args: argparse.Namespace) -> dict[str, Any]:
    """Of every request."""
    return {
        "steps": args.steps,
        "cfg_scale": args.cfg_scale,
        "sampler_name": args.sampler,
        "scheduler": args.scheduler,
        "width": args.size[0],
        "height": args.size[1],
        "negative_prompt": args.negative,
        "batch_size": 1,
    }


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """By key; a line that was cut off is left out."""
    records = {}
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            record = json.loads(line)
            records[record["key"]] = record
        except ValueError:
            continue
    return records


def make_missing(
    jobs: Sequence[Job],
    subjects: Sequence[Subject],
    known: Sequence[Known],
    args: argparse.Namespace,
    tools: tuple[WebUI, FaceAnalyser, ClipScore | None],
) -> list[dict[str, Any]]:
    """Every job's record, from the file where it is kept, else from a picture made now."""
    webui, analyser, clip = tools
    path, records = args.out / RECORDS, read_records(args.out / RECORDS)
    with tqdm(total=len(jobs), unit="picture", dynamic_ncols=True) as bar, path.open("ab", buffering=0) as file:
        file.write(b"\n")  # behind a line that may have been cut off
        for job in jobs:
            bar.set_description(f"{job.method}, person {job.subject}, prompt {job.prompt + 1}")
            if job.key not in records:
                settings, subject = METHODS[job.method], subjects[job.subject - 1]
                unit = None if settings is None else {**unit_of(subject, args), **settings, **mask_of(settings)}
                made = webui.txt2img({**sampling_of(args), "prompt": job.text, "seed": job.seed}, unit)
                record = measure(made, known[job.subject - 1], analyser)
                record["clip"] = clip(made.image, job.text) if clip else None
                about = {"key": job.key, "method": job.method, "person": job.subject, "prompt": job.prompt}
                records[job.key] = {**about, "seed": job.seed, **record}
                Image.fromarray(made.image).save(args.out / PICTURES / f"{job.key}.png")
                file.write(json.dumps(records[job.key]).encode() + b"\n")
            elif clip and records[job.key]["clip"] is None:  # the run before had no CLIP
                image = np.asarray(Image.open(args.out / PICTURES / f"{job.key}.png").convert("RGB"))
                records[job.key]["clip"] = clip(image, job.text)
                file.write(json.dumps(records[job.key]).encode() + b"\n")
            bar.update()
    return [records[job.key] for job in jobs]


def unit_of(subject: Subject, args: argparse.Namespace) -> dict[str, Any]:
    """The person's part of the extension's settings."""
    return {"enabled": True, "references": [subject.reference], "adapter": args.adapter}


def mask_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The mask is asked for where it says something: a whole one lies at no face."""
    return {"show_mask": settings.get("mask_mode") != "whole"}


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    subjects, prompts = read_subjects(args.persons), read_prompts(args.prompts)[: args.first]
    user, _, password = (args.auth or "").partition(":")
    webui = WebUI(args.url, (user, password) if args.auth else None)
    unit = unit_of(subjects[0], args)
    used = webui.check(unit)
    feeding = webui.feeding_pack({"references": unit["references"], "adapter": args.adapter}, used["pack"])
    try:
        analyser, clip = choose_pack(args.judge, args.models, feeding), load_clip(args.clip)
        known = [know(subject, analyser) for subject in subjects]
    except BeyondFacialError as error:
        raise SystemExit(str(error)) from error
    about = {**webui.facts(), **used, "feeding": feeding, "judge": analyser.space, **sampling_of(args)}
    jobs = list(make_jobs(subjects, [each.word for each in known], prompts, args.methods, about))
    (args.out / PICTURES).mkdir(parents=True, exist_ok=True)
    records = make_missing(jobs, subjects, known, args, (webui, analyser, clip))
    facts = {"persons": len(subjects), "prompts": len(prompts), "clip": clip is not None}
    facts |= {"same_recogniser": is_same_pack(analyser.space, feeding), **about}
    facts["texts"] = hashlib.sha256("\n".join(prompts).encode()).hexdigest()[:12]
    content = summary.summarise(records, facts)
    (args.out / "result.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    pictures = {job.key: args.out / PICTURES / f"{job.key}.png" for job in jobs}
    photos = [base64.b64decode(subject.reference) for subject in subjects]
    (args.out / "page.html").write_text(page.write(content, jobs, pictures, photos), encoding="utf-8")
    print(
        f"{args.out / 'page.html'} has the table, the plots and pictures; {args.out / 'result.json'} has no picture."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
