"""One HTML page without any other file: the table, the plots, and a contact sheet."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from bench.photo.jobs import SAYS, Job
from bench.photo.summary import COLUMNS

TILE, PROMPTS_SHOWN = 160, 12
SAME = (
    "The judge has the same recogniser as what feeds the adapter and chooses between heads, so the similarities "
    "flatter every method that is fed by it. Install a second face pack (antelopev2 beside buffalo_l), and run again "
    "with --judge."
)
STYLE = """
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 90em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .3em .6em; border-bottom: 1px solid #ddd; text-align: left; }
td span { color: #777; font-size: .85em; } .red { color: #b00020; font-weight: bold; }
.sheet { overflow-x: auto; } .sheet td { vertical-align: top; font-size: .8em; } img { display: block; }
"""


def write(content: dict[str, Any], jobs: Sequence[Job], pictures: Mapping[str, Path], photos: Sequence[bytes]) -> str:
    """The page.

    Args:
        pictures: by a job's key. photos: of the persons, as files.
    """
    about = content["about"]
    facts = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.items())
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>BeyondFacial, measured</title>",
        f"<style>{STYLE}</style><h1>BeyondFacial, measured with real weights</h1>",
        f"<p>{about['persons']} persons, {about['prompts']} prompts, the same seeds for every method; means with 95% "
        "bootstrap intervals. Similarity is the judge's cosine to a photo that was not fed.</p>",
        f"<p class='red'>{SAME}</p>" if about["same_recogniser"] else "",
        table(content["rows"]),
        *(f"<img alt='{title}' src='{image}'>" for title, image in plots(content)),
        "<h2>Similarity by the face's share of the picture</h2>",
        ratio_table(content["by_ratio"]),
        "<h2>Pictures</h2><div class='sheet'>",
        contact_sheet(jobs, pictures, photos),
        "</div><h2>Warnings of the extension</h2><ul>",
        *(f"<li>{escape(warning)}</li>" for warning in content["warnings"]),
        f"</ul><p>{escape(facts)}</p></html>\n",
    ]
    return "\n".join(parts)


def cell(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return "<td>-</td>"
    low, high = row[f"{name}_ci"]
    return f"<td>{row[name]:.3f} <span>{low:.3f} to {high:.3f}</span></td>"


def table(rows: Sequence[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in COLUMNS.values())
    lines = [
        f"<tr><td title='{escape(SAYS[row['method']])}'>{row['method']}</td><td>{row['n']}</td>"
        f"{''.join(cell(row, name) for name in COLUMNS)}</tr>"
        for row in rows
    ]
    return f"<table><tr><th>method</th><th>n</th>{head}</tr>{''.join(lines)}</table>"


def ratio_table(by_ratio: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    bins = next(iter(by_ratio.values()), [])
    head = "".join(f"<th>{100 * each['above']:g} to {100 * each['to']:g}%</th>" for each in bins)
    lines = []
    for name, of_method in by_ratio.items():
        cells = (cell(each, "similarity").replace("</td>", f" <span>n {each['n']}</span></td>") for each in of_method)
        lines.append(f"<tr><td>{name}</td>{''.join(cells)}</tr>")
    return f"<table><tr><th>method</th>{head}</tr>{''.join(lines)}</table>"


def plots(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Titles and pictures, as data URLs; none where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), dpi=100)
    for name, bins in content["by_ratio"].items():
        known = [each for each in bins if each["n"]]
        places = [bins.index(each) for each in known]
        left.plot(places, [each["similarity"] for each in known], marker="o", label=name)
    left.set_xticks(range(len(bins)), [f"{100 * each['above']:g}-{100 * each['to']:g}%" for each in bins])
    left.set_xlabel("face's share of the picture")
    left.set_ylabel("similarity")
    left.legend(fontsize=8)
    for row in content["rows"]:
        right.plot(row["close_up"], row["similarity"], "o")
        right.annotate(row["method"], (row["close_up"], row["similarity"]), xytext=(4, 4), textcoords="offset points")
    right.set_xlabel("close-up rate")
    right.set_ylabel("similarity, misses count 0")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    return [("similarity by size of the face, and against close-ups", to_url(buffer.getvalue(), "png"))]


def contact_sheet(jobs: Sequence[Job], pictures: Mapping[str, Path], photos: Sequence[bytes]) -> str:
    """One line a prompt, of the first persons in turn: the fed photo, then every method's picture."""
    methods = list(dict.fromkeys(job.method for job in jobs))
    by_place = {(job.prompt, job.subject, job.method): job for job in jobs}
    prompts = sorted({job.prompt for job in jobs})[:PROMPTS_SHOWN]
    lines = []
    for p in prompts:
        subject = p % len(photos) + 1
        shown = [by_place[p, subject, method] for method in methods]
        tiles = "".join(f"<td>{tile(pictures[job.key].read_bytes())}</td>" for job in shown)
        lines.append(f"<tr><td>{tile(photos[subject - 1])}{escape(shown[0].text)}</td>{tiles}</tr>")
    head = "".join(f"<th>{method}</th>" for method in methods)
    return f"<table><tr><th>photo</th>{head}</tr>{''.join(lines)}</table>"


def tile(file: bytes) -> str:
    image = Image.open(io.BytesIO(file)).convert("RGB")
    image.thumbnail((TILE, 2 * TILE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return f"<img alt='' src='{to_url(buffer.getvalue(), 'jpeg')}'>"


def to_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
