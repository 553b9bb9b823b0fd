"""The main job on the toy world: `make demo`, or `python -m demo [--once] [--face PHOTO] [--prompt TEXT]`.

One photo, one prompt, three pictures from the same seed: plain, single-line identity (as other adapters do it),
BeyondFacial. Writes demo/out/sheet.png and demo/out/result.json, prints the table, then serves page and
API on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.dollhouse.world import SIZE

REPOSITORY = Path(__file__).resolve().parents[1]
WEIGHTS = REPOSITORY / "demo" / "dollhouse" / "weights"
OUT = REPOSITORY / "demo" / "out"
PROMPT = "photo of a man running in the city, full body shot"
METHODS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "single-line ID": {"mask_mode": "whole", "weight": 1.0, "start": 0.0, "idap_strength": 0.0},
    "BeyondFacial": {},
}
TILE, MARGIN, LINE = 320, 16, 22


def default_photo() -> np.ndarray:
    """A close-up of a drawn person, RGB uint8."""
    from demo.dollhouse.draw import draw
    from demo.dollhouse.world import Identity, Picture

    person = Identity(0.35, "red", "spiky", "blue", 0.95, glasses=True, beard=False, gender="man")
    return draw(Picture(person, "field", "standing", "close-up", details=4), 256, 256)[0]


def read_photo(path: str | None) -> np.ndarray:
    if not path:
        return default_photo()
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"FACE={path}: this is no picture that can be read; give a JPEG or PNG file.")
    return image[..., ::-1]


def make_pictures(host: Any, photo: np.ndarray, prompt: str, seed: int) -> list[dict[str, Any]]:
    """One row a method: the picture, the mask, and what the judges say of it."""
    from demo.dollhouse.evaluate import Evaluator
    from lib_beyondfacial.faces.analysis import get_analyser

    judge, evaluator = get_analyser(WEIGHTS / "judge" / "dollhouse_judge"), Evaluator.load()
    persons = judge.find(photo)
    reference = base64.b64encode(cv2.imencode(".png", photo[..., ::-1])[1].tobytes()).decode()
    rows = []
    for method, extra in METHODS.items():
        print(f"{method} ...", end=" ", flush=True)
        began = time.time()
        request = {
            "prompt": prompt,
            "seed": seed,
            "steps": 20,
            "cfg_scale": 4.0,
            "width": SIZE,
            "height": SIZE,
            "sampler_name": "DDIM",
        }
        if extra is not None:
            unit = {"enabled": True, "references": [reference], "show_mask": True, **extra}
            request["alwayson_scripts"] = {"BeyondFacial": {"args": [unit]}}
        try:
            images, info = host.txt2img(**request)
        except Exception as error:  # the request's own sentence, whatever class the host wraps it in
            raise SystemExit(str(getattr(error, "detail", error))) from error
        picture = np.asarray(images[0].convert("RGB"))
        faces = judge.find(picture)
        similarity = (
            max((float(f.normed_embedding @ persons[0].normed_embedding) for f in faces), default=0.0)
            if persons
            else None
        )
        verdict = evaluator.judge(picture[None])
        reports = info.get("extra_generation_params", {}).get("BeyondFacial report") or [{}]
        rows.append(
            {
                "method": method,
                "picture": picture,
                "mask": np.asarray(images[1].convert("RGB")) if len(images) > 1 else np.zeros_like(picture),
                "similarity": None if similarity is None else round(similarity, 3),
                **{key: str(verdict[key][0]) for key in ("shot", "scene", "action")},
                "face_area": round(float(reports[0].get("face_area") or 0.0), 4) if extra is not None else None,
                "mask_coverage": round(float(reports[0].get("mask_coverage") or 0.0), 4)
                if extra is not None
                else None,
                "seconds": round(time.time() - began, 2),
            }
        )
        print(f"{rows[-1]['seconds']:.1f} s", flush=True)
    return rows


def draw_sheet(photo: np.ndarray, rows: list[dict[str, Any]], prompt: str) -> Image.Image:
    """The photo and the three pictures side by side; under each its fusion mask, similarity and shot."""
    width = (len(rows) + 1) * (TILE + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, 2 * TILE + 4 * LINE + 5 * MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()

    def tile(pixels: np.ndarray, x: int, y: int) -> None:
        sheet.paste(
            Image.fromarray(np.ascontiguousarray(pixels)).resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y)
        )
        pen.rectangle((x - 1, y - 1, x + TILE, y + TILE), outline="grey")  # a mask of the whole picture is white

    def text(line: str, x: int, y: int) -> None:
        pen.text((x, y), line, fill="black", font=font)

    top = MARGIN + LINE
    text(f"reference photo     prompt: {prompt}     (Dollhouse, a toy world)", MARGIN, MARGIN // 2)
    tile(photo, MARGIN, top)
    for i, row in enumerate(rows, 1):
        x = MARGIN + i * (TILE + MARGIN)
        tile(row["picture"], x, top)
        tile(row["mask"], x, top + TILE + MARGIN + LINE)
        text(f"{row['method']} - fusion mask:", x, top + TILE + MARGIN // 2)
        similarity = "-" if row["similarity"] is None else f"{row['similarity']:.2f}"
        text(f"similarity {similarity}   shot {row['shot']}", x, top + 2 * TILE + LINE + int(1.5 * MARGIN))
        text(f"scene {row['scene']}   action {row['action']}", x, top + 2 * TILE + 2 * LINE + int(1.5 * MARGIN))
    return sheet


def print_table(rows: list[dict[str, Any]]) -> None:
    columns = ("method", "similarity", "shot", "scene", "action", "face_area", "mask_coverage", "seconds")
    lines = [columns, *(tuple("-" if row[c] is None else str(row[c]) for c in columns) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="stop before serving")
    parser.add_argument("--face", help="a photo (of a Dollhouse person: this world's face pack knows no others)")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--port", type=int, default=7861)
    args = parser.parse_args()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from demo.miniwebui.host import boot

    host = boot(models_dir=WEIGHTS / "models", extensions=[REPOSITORY])
    photo = read_photo(args.face)
    rows = make_pictures(host, photo, args.prompt, args.seed)
    OUT.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(photo)).save(OUT / "reference.png")
    draw_sheet(photo, rows, args.prompt).save(OUT / "sheet.png")
    without_pictures = [{k: v for k, v in row.items() if k not in ("picture", "mask")} for row in rows]
    (OUT / "result.json").write_text(
        json.dumps({"prompt": args.prompt, "seed": args.seed, "rows": without_pictures}, indent=1) + "\n"
    )
    print_table(rows)
    print(
        f"written: {OUT / 'sheet.png'}, {OUT / 'result.json'}; a photo to try the page with: {OUT / 'reference.png'}",
        flush=True,
    )
    if not args.once:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "demo.miniwebui", "--port", str(args.port)])


if __name__ == "__main__":
    main()
