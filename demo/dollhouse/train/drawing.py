"""The drawn data: made by all cores in parts, kept in the cache. Who draws a picture does not change it."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from demo.dollhouse.canvas import Canvas
from demo.dollhouse.draw import draw, draw_body, draw_head, draw_scene, skin_colour, to_ink
from demo.dollhouse.extras import ACCESSORIES, EXPRESSIONS, choose
from demo.dollhouse.train.place import Place
from demo.dollhouse.world import (
    ACTIONS,
    SCENES,
    SHOTS,
    Identity,
    Picture,
    Truth,
    head_radius,
    random_identity,
    random_picture,
    with_extras,
)
from lib_beyondfacial.faces.alignment import CROP, align_face

PART = 64
STOCK = 64
WORLD = 2  # of what is drawn here: data in a cache that an earlier drawing made are not read
TWO = {False: 0.3, True: 0.7}  # share of two persons in square and in wide pictures


def draw_part(jobs: Sequence, size: int, width: int | None = None) -> tuple[np.ndarray, list[Truth]]:
    pairs = [draw(picture, width or size, size) for picture in jobs]
    return np.stack([image for image, _ in pairs]), [truth for _, truth in pairs]


def crop_part(jobs: Sequence, size: int) -> tuple[np.ndarray, list[Truth]]:
    """The faces of drawn pictures, aligned by their true landmarks."""
    pairs = [draw(picture, size, size) for picture in jobs]
    return np.stack([align_face(image, t.landmarks) for image, t in pairs]), [truth for _, truth in pairs]


def portrait_part(jobs: Sequence, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """(person, shots, seed) -> pictures (n, shots, size, size, 3) and landmarks (shots, 5, 2).

    As `draw.draw`, but heads are anywhere and backgrounds come from a stock, which makes it two times faster. Every
    picture has an expression and an accessory of its own: neither is identity.
    """
    rng = np.random.default_rng(jobs[0][2])
    canvas, stock = Canvas(size, size), []
    for k in range(min(STOCK, 2 * len(jobs))):
        canvas = Canvas(size, size)
        draw_scene(canvas, SCENES[k % len(SCENES)], rng)
        stock.append(canvas.pixels)
    images = np.empty((len(jobs), len(jobs[0][1]), size, size, 3), np.uint8)
    truths = []
    for i, (person, shots, _) in enumerate(jobs):
        points = []
        for j, shot in enumerate(shots):
            canvas.pixels = stock[rng.integers(len(stock))].copy()
            r = head_radius(shot, size) * rng.uniform(0.9, 1.1)
            low = min(0.5, 1.25 * r)
            x, y = rng.uniform(max(low, 0.25), 1 - max(low, 0.25)), rng.uniform(max(low, 0.15), 0.54)
            draw_body(canvas, x, y, r, str(rng.choice(ACTIONS)), skin_colour(person.skin), rng)
            expression, worn = (choose(rng, options, 0.6) for options in (EXPRESSIONS, ACCESSORIES))
            points.append((draw_head(canvas, x, y, r, person, expression, worn, rng) * size).astype(np.float32))
            image = canvas.finish()
            images[i, j] = to_ink(image) if rng.random() < 0.04 else image
        truths.append(np.stack(points))
    return images, truths


def _into_file(path: Path, draw_jobs: Callable, size: int, start: int, jobs: Sequence) -> list:
    images, truths = draw_jobs(jobs, size)
    stored = np.load(path, mmap_mode="r+")
    stored[start : start + len(jobs)] = images
    return truths


def one_thread() -> None:
    cv2.setNumThreads(0)


def drawn(
    place: Place, name: str, draw_jobs: Callable, jobs: Sequence, shape: tuple[int, ...]
) -> tuple[np.ndarray, list]:
    """All jobs' pictures (n, *shape) uint8, read from the cache's file, and their truths; drawn once."""
    path = place.cache / f"{name}_world{WORLD}.npy"
    done = path.with_suffix(".pkl")
    if not done.exists():
        partial_path = path.with_suffix(".partial.npy")
        np.lib.format.open_memmap(partial_path, "w+", np.uint8, (len(jobs), *shape)).flush()
        work = partial(_into_file, partial_path, draw_jobs, place.size)
        starts = range(0, len(jobs), PART)
        parts = [jobs[start : start + PART] for start in starts]
        if place.workers > 1:
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(place.workers, context, one_thread) as pool:
                truths = [truth for part in pool.map(work, starts, parts) for truth in part]
        else:
            truths = [truth for start, part in zip(starts, parts, strict=True) for truth in work(start, part)]
        partial_path.replace(path)
        done.write_bytes(pickle.dumps(truths, protocol=5))
        print(f"drawn: {len(jobs)} {name}", flush=True)
    # Our own file, written by the lines above into our own cache folder.
    return np.load(path, mmap_mode="c"), pickle.loads(done.read_bytes())


def random_pictures(n: int, seed: int, is_wide: bool = False) -> list[Picture]:
    """Pictures with extras; two people's close-ups are wide."""
    rng, pictures = np.random.default_rng(seed), []
    for _ in range(n):
        picture = random_picture(rng)
        has_room = is_wide or picture.shot != "close-up"
        pictures.append(with_extras(picture, rng, TWO[is_wide] * has_room))
    return pictures


def drawn_pictures(
    place: Place, n: int, seed: int, width: int | None = None
) -> tuple[np.ndarray, list[tuple[Picture, Truth]]]:
    """`n` pictures (n, size, width or size, 3) uint8, and what each shows and where."""
    pictures = random_pictures(n, seed, width is not None)
    name, shape = f"pictures_{n}_{seed}", (place.size, width or place.size, 3)
    work = partial(draw_part, width=width)
    images, truths = drawn(place, f"{name}_{width}" if width else name, work, pictures, shape)
    return images, list(zip(pictures, truths, strict=True))


def wide_pictures(place: Place) -> list[tuple[np.ndarray, list[tuple[Picture, Truth]]]]:
    """Training pictures one and a half and two times as wide as high."""
    widths = (place.size * 3 // 2, place.size * 2)
    return [drawn_pictures(place, place.amounts.wide, seed=12 + k, width=w) for k, w in enumerate(widths)]


def training_pictures(place: Place) -> tuple[np.ndarray, list[tuple[Picture, Truth]]]:
    return drawn_pictures(place, place.amounts.pictures, seed=1)


def drawn_crops(place: Place, name: str, pictures: list[Picture]) -> np.ndarray:
    """(n, 112, 112, 3): the aligned faces of pictures drawn at the place's size."""
    return drawn(place, f"{name}_{len(pictures)}", crop_part, pictures, (CROP, CROP, 3))[0]


def drawn_portraits(
    place: Place, name: str, people: list[Identity], shots: tuple[str, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Every person in every shot: pictures (people, shots, size, size, 3) and landmarks (people, shots, 5, 2)."""
    jobs = [(person, shots, (seed, i)) for i, person in enumerate(people)]
    shape = (len(shots), place.size, place.size, 3)
    images, truths = drawn(place, f"{name}_{len(people)}", portrait_part, jobs, shape)
    return images, np.stack(truths)


def held_out_people(
    place: Place, seed: int = 77, second_has_extras: bool = False
) -> tuple[list[Identity], np.ndarray, list]:
    """Unseen persons, two flat pictures in each shot: people, (n, 3, 2, size, size, 3) uint8, truths [n][3][2]. The
    second of the two may have extras."""
    rng = np.random.default_rng(seed)
    n = place.amounts.people
    people = [random_identity(rng) for _ in range(n)]
    pictures = [
        random_picture(rng, person, shot=shot, style="flat") for person in people for shot in SHOTS for _ in range(2)
    ]
    if second_has_extras:
        pictures[1::2] = [with_extras(picture, rng) for picture in pictures[1::2]]
    name = f"people_{n}_{seed}_{int(second_has_extras)}"
    images, truths = drawn(place, name, draw_part, pictures, (place.size, place.size, 3))
    rows = [[truths[k : k + 2] for k in range(6 * i, 6 * i + 6, 2)] for i in range(n)]
    return people, images.reshape(n, len(SHOTS), 2, *images.shape[1:]), rows


def kept(place: Place, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that `make` makes, kept in the cache."""
    path = place.cache / f"{name}_world{WORLD}.npy"
    if not path.exists():
        partial_path = path.with_suffix(".partial.npy")
        np.save(partial_path, make())
        partial_path.replace(path)
    return np.load(path, mmap_mode="c")
