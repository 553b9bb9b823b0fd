"""Records of every method on the same batches: what is kept is read, what is missing is made, batch by batch with all
methods in turn, so that a run that is ended early is paired as far as it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.device import choose_device
from bench.judges import Before, Judges
from bench.methods import METHODS, STARTED_FROM, Method
from bench.painter import Painter, Sampling
from bench.pairs import Pair
from bench.records import CACHE, Record, Store, key_of

PICTURES_KEPT = 16  # of the first pairs, for the contact sheet; all where other methods go on from them
NOTHING_DONE = {"unet_rows": 0.0, "seconds": 0.0}
BATCH = {"cpu": 4, "cuda": 32}  # cpu: 1.0 s a plain picture against 1.7 alone, one thread; 8 are no faster


@dataclass
class Bench:
    """One place where records are made and kept; the host is started when the first picture is missing.

    load_judges: from a function that puts a picture through the VAE.
    """

    split: str
    sampling: Sampling = field(default_factory=Sampling)
    device: str = "auto"
    cache: Path = CACHE
    load_judges: Callable[[Callable[[np.ndarray], np.ndarray]], Judges] = Judges.load
    _painter: Painter | None = None
    _judges: Judges | None = None

    def __post_init__(self) -> None:
        self.device = choose_device(self.device).type

    @property
    def painter(self) -> Painter:
        if self._painter is None:
            self._painter = Painter(self.sampling, self.device)
        return self._painter

    @property
    def judges(self) -> Judges:
        if self._judges is None:
            self._judges = self.load_judges(self.painter.through_vae)
        return self._judges

    def store(self, method: Method) -> Store:
        return Store.of(method, self.split, self.sampling, self.device, self.cache)

    def collect(self, methods: list[Method], batches: list[list[Pair]]) -> dict[str, list[Record]]:
        """Each method's records in the order of the pairs."""
        methods = in_order(methods)
        asked = {method.name: those_asked(method, batches) for method in methods}
        stores = {method.name: self.store(method) for method in methods}
        total = sum(len(batch) for of_method in asked.values() for batch in of_method)
        with tqdm(total=total, disable=None, unit="picture", smoothing=0.05, dynamic_ncols=True) as bar:
            for batch in batches:
                members = [pair.index for pair in batch]
                for method in (method for method in methods if batch in asked[method.name]):
                    bar.set_description(method.name)
                    if not stores[method.name].has(members):
                        stores[method.name].add(self.make(method, batch, stores))
                    bar.update(len(batch))
        members = {
            name: sorted(pair.index for batch in of_method for pair in batch) for name, of_method in asked.items()
        }
        return {name: [store.by_pair[i] for i in members[name]] for name, store in stores.items()}

    def kept(self, methods: list[Method], batches: list[list[Pair]]) -> dict[str, list[Record]]:
        """What there is of each method so far, without making any; methods of which there is nothing are left out."""
        records = {}
        for method in in_order(methods):
            store = self.store(method)
            members = [[pair.index for pair in batch] for batch in batches]
            whole = sorted(i for batch in members if store.has(batch) for i in batch)
            records |= {method.name: [store.by_pair[i] for i in whole]} if whole else {}
        return records

    def make(self, method: Method, batch: list[Pair], stores: Mapping[str, Store]) -> list[Record]:
        """One batch painted, judged and its pictures kept where they are needed again.

        stores: by name, of the methods that this one needs.
        """
        before = self.before(METHODS[method.base], batch, stores) if not method.is_plain else None
        boxes = [each["box"] for each in records_of(batch, stores[method.base])] if method.needs_boxes else ()
        finished = self.finished(METHODS[method.after], batch, stores) if method.after else ()
        done = records_of(batch, stores[method.after]) if method.after else [NOTHING_DONE] * len(batch)
        painted = self.painter.paint(batch, method, boxes, finished)
        judged = self.judges.records(batch, painted.images, before)
        records = []
        for i, pair in enumerate(batch):
            cost = {"unet_rows": painted.rows, "seconds": painted.seconds}
            cost = {key: round(value + done[i][key], 4) for key, value in cost.items()}
            warned = {"warnings": painted.warnings[i] if painted.warnings else None}
            mask = {"flicker": rounded(painted.flicker()[i]), "coverage": rounded(painted.coverage()[i])}
            members = [pair.index for pair in batch]
            records.append({"pair": pair.index, "batch": members, **judged[i], **mask, **warned, **cost})
            if pair.index < PICTURES_KEPT or method.name in STARTED_FROM:
                keep_picture(self.picture_path(method, pair.index), painted.images[i])
        return records

    def before(self, plain: Method, batch: list[Pair], stores: Mapping[str, Store]) -> list[Before]:
        """The plain pictures and their heads."""
        images = self.finished(plain, batch, stores)
        records = records_of(batch, stores[plain.name])
        return [Before(image, record) for image, record in zip(images, records, strict=True)]

    def finished(self, method: Method, batch: list[Pair], stores: Mapping[str, Store]) -> list[np.ndarray]:
        """A batch's kept pictures; painted again where only the records are there."""
        if not all(self.picture_path(method, pair.index).exists() for pair in batch):
            stores[method.name].add(self.make(method, batch, stores))
        return self.pictures(method, batch)

    def picture_path(self, method: Method, pair: int) -> Path:
        return self.cache / self.split / "pictures" / key_of(method, self.sampling, self.device) / f"{pair:04d}.png"

    def pictures(self, method: Method, pairs: list[Pair]) -> list[np.ndarray]:
        """The pictures that were kept of these pairs."""
        paths = [self.picture_path(method, pair.index) for pair in pairs]
        return [np.asarray(Image.open(path).convert("RGB")) for path in paths if path.exists()]


def in_order(methods: list[Method]) -> list[Method]:
    """The methods in a sequence in which each comes after those that it needs; these are added where they miss."""
    ordered: dict[str, Method] = {}

    def add(method: Method) -> None:
        for name in method.needs:
            add(METHODS[name])
        ordered.setdefault(method.name, method)

    for method in sorted(methods, key=lambda each: each.name != "plain"):
        add(method)
    return list(ordered.values())


def those_asked(method: Method, batches: list[list[Pair]]) -> list[list[Pair]]:
    """The batches that a method is made of: all, or those that begin before its `first` pairs (the same in every
    shard)."""
    return [batch for batch in batches if method.first is None or batch[0].index < method.first]


def keep_picture(path: Path, image: np.ndarray) -> None:
    """Write it under another name first, so that a run that is killed leaves no half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    Image.fromarray(image).save(part, "PNG")
    part.replace(path)


def records_of(batch: list[Pair], store: Store) -> list[Record]:
    return [store.by_pair[pair.index] for pair in batch]


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
