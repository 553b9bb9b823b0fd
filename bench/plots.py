"""The plots: what a method keeps of the scene and of the plain picture against what it keeps of the person, and
similarity by face size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHOWN = ("plain", "single_line", "single_line_late", "detailer", "refine_only", "beyondfacial")
COLOURS = {"beyondfacial": "#c0392b", "plain": "#555555", "oracle_mask": "#2c7fb8", "saliency_only": "#8e44ad"}
SINGLE, LATE, PART = "#e08a1e", "#b8860b", "#d98880"
LABELS = {"outside_change": "change to the plain picture outside the heads, of 255"}
TOGETHER = 2 * 2**20  # bytes that all PNG files of bench/results may have
TILE, COLUMNS = 96, 8


def colour_of(method: str) -> str:
    if method.startswith("single_line_late"):
        return LATE
    if method.startswith("single_line"):
        return SINGLE
    return COLOURS.get(method, PART if method.startswith("minus_") else "#4a7c59")


def plot_frontier(content: dict[str, Any], path: Path, across: str = "scene_accuracy") -> None:
    """Similarity against another column (scene or shot accuracy, change), one point a method, with intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5.2), dpi=110)
    rows = [row for row in content["rows"] if row[across] is not None]
    for row in rows:
        x, y, colour = row[across], row["similarity"], colour_of(row["method"])
        spread = [
            [[value - ci[0]], [ci[1] - value]] for value, ci in ((x, row[f"{across}_ci"]), (y, row["similarity_ci"]))
        ]
        is_default = row["method"] == "beyondfacial"
        axes.errorbar(
            x, y, xerr=spread[0], yerr=spread[1], fmt="*" if is_default else "o", ms=15 if is_default else 7,
            color=colour, elinewidth=0.8, capsize=2, alpha=0.9,
        )  # fmt: skip
    axes.axhline(content["similarity_ceiling"], color="#999999", ls="--", lw=1)
    axes.text(0.01, content["similarity_ceiling"], " ceiling at the found heads' size", va="bottom", fontsize=8,
              color="#777777", transform=axes.get_yaxis_transform())  # fmt: skip
    if across.endswith("accuracy"):
        axes.set_xlim(min(axes.get_xlim()[0], 0.9), 1.01)
    annotate(axes, [(row[across], row["similarity"], row["method"]) for row in rows])
    axes.set_xlabel(f"{LABELS.get(across, across.replace('_', ' '))}, 95% interval")
    axes.set_ylabel("similarity to the person (judge's cosine)")
    finish(figure, axes, content, path)


def annotate(axes: Any, points: list[tuple[float, float, str]]) -> None:
    """Names beside their points: in a column at the right, spread so that none covers another."""
    points = sorted(points, key=lambda point: point[1])
    low, high = axes.get_ylim()
    step, last = (high - low) / 24, low
    for x, y, name in points:
        last = max(y, last + step)
        axes.annotate(
            name, (x, y), xytext=(1.02, last), textcoords=("axes fraction", "data"), fontsize=8, va="center",
            color=colour_of(name), arrowprops={"arrowstyle": "-", "lw": 0.4, "color": colour_of(name), "alpha": 0.5},
        )  # fmt: skip


def plot_by_area(content: dict[str, Any], path: Path) -> None:
    """Similarity in bins of the found face's share of the picture, beside what the VAE lets through at that size."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5.2), dpi=110)
    bins = content["by_face_area"]
    shown = [name for name in SHOWN if name in bins] or list(bins)
    for k, name in enumerate(shown):
        draw_line(axes, bins[name], "similarity", (k - len(shown) / 2) * 0.05, name, colour_of(name))
    best = "beyondfacial" if "beyondfacial" in bins else shown[-1]
    draw_line(axes, bins[best], "ceiling", 0, f"ceiling at the size of {best}'s heads", "#999999", "--")
    labels = [f"{100 * entry['above']:g}-{100 * entry['to']:g}%" for entry in bins[best]]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xlabel("found face's share of the picture (number of pictures at each point)")
    axes.set_ylabel("similarity to the person (judge's cosine)")
    axes.legend(fontsize=8, frameon=False)
    finish(figure, axes, content, path)


def draw_line(
    axes: Any, bins: list[dict[str, Any]], key: str, shift: float, label: str, colour: str, style: str = "-"
) -> None:
    kept = [(i, entry) for i, entry in enumerate(bins) if entry["n"]]
    x = np.array([i for i, _ in kept]) + shift
    y = np.array([entry[key] for _, entry in kept])
    low, high = (np.array([entry[f"{key}_ci"][side] for _, entry in kept]) for side in (0, 1))
    axes.errorbar(x, y, yerr=[y - low, high - y], color=colour, ls=style, marker="o", ms=4, lw=1.2, elinewidth=0.7,
                  capsize=2, label=label)  # fmt: skip
    if key == "similarity":
        for place, value, (_, entry) in zip(x, y, kept, strict=True):
            axes.annotate(
                entry["n"], (place, value), xytext=(2, 3), textcoords="offset points", fontsize=6, color=colour
            )


def finish(figure: Any, axes: Any, content: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    n, split = content["rows"][0]["n"], content["about"]["split"]
    axes.set_title(f"Dollhouse, a toy world: {n} pairs, split {split}", fontsize=10, loc="left")
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def contact_sheet(pictures: dict[str, list[np.ndarray]], photos: list[np.ndarray], path: Path) -> None:
    """One column a pair: the reference photo, then every method's picture, named at the left; 256 colours."""
    from PIL import ImageDraw

    named = {"reference": photos, **pictures}
    width = min(COLUMNS, max(map(len, named.values())))
    margin = 130
    sheet = Image.new("RGB", (margin + width * TILE, len(named) * TILE), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(named.items()):
        pen.text((6, row * TILE + TILE // 2 - 6), name, fill="black")
        for k, image in enumerate(images[:width]):
            tile = Image.fromarray(image).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (margin + k * TILE, row * TILE))
    sheet.quantize(256).save(path, optimize=True)


def check_size(folder: Path) -> int:
    """How many bytes the folder's PNG files have together; too many are an error, as they are committed."""
    size = sum(path.stat().st_size for path in folder.glob("*.png"))
    if size > TOGETHER:
        raise SystemExit(f"The PNG files in {folder.name} have {size / 2**20:.1f} MB; 2 MB together is the most.")
    return size
