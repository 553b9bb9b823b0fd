"""Records of every method on the same batches: what is kept is read, what is missing is made, batch by batch with all
methods in turn, so that a run that is ended early is paired as far as it came."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.alternatives import Boxes
from bench.device import choose_device
from bench.judges import Judges
from bench.methods import METHODS, Method
from bench.painter import Painter, Sampling
from bench.pairs import Pair
from bench.records import CACHE, Record, Store, key_of

PICTURES_KEPT = 16  # of the first pairs, for the contact sheet
BATCH = {"cpu": 4, "cuda": 32}  # cpu: 1.0 s a plain picture against 1.7 alone, one thread; 8 are no faster


@dataclass
class Bench:
    """One place where records are made and kept; the host is started when the first picture is missing."""

    split: str
    sampling: Sampling = field(default_factory=Sampling)
    device: str = "auto"
    cache: Path = CACHE
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
            self._judges = Judges.load(self.painter.through_vae)
        return self._judges

    def store(self, method: Method) -> Store:
        return Store.of(method, self.split, self.sampling, self.device, self.cache)

    def collect(self, methods: list[Method], batches: list[list[Pair]]) -> dict[str, list[Record]]:
        """Each method's records in the order of the pairs."""
        methods = in_order(methods)
        stores = {method.name: self.store(method) for method in methods}
        total = sum(map(len, batches)) * len(methods)
        with tqdm(total=total, unit="picture", smoothing=0.05, dynamic_ncols=True) as bar:
            for batch in batches:
                members = [pair.index for pair in batch]
                for method in methods:
                    bar.set_description(method.name)
                    if not stores[method.name].has(members):
                        boxes = [stores["plain"].by_pair[i]["box"] for i in members] if method.needs_boxes else []
                        stores[method.name].add(self.make(method, batch, boxes))
                    bar.update(len(batch))
        members = sorted(pair.index for batch in batches for pair in batch)
        return {name: [store.by_pair[i] for i in members] for name, store in stores.items()}

    def kept(self, methods: list[Method], batches: list[list[Pair]]) -> dict[str, list[Record]]:
        """What there is of each method so far, without making any; methods of which there is nothing are left out."""
        records = {}
        for method in in_order(methods):
            store = self.store(method)
            members = [[pair.index for pair in batch] for batch in batches]
            whole = sorted(i for batch in members if store.has(batch) for i in batch)
            records |= {method.name: [store.by_pair[i] for i in whole]} if whole else {}
        return records

    def make(self, method: Method, batch: list[Pair], boxes: Boxes) -> list[Record]:
        """One batch painted, judged and its first pictures kept."""
        painted = self.painter.paint(batch, method, boxes)
        judged = self.judges.records(batch, painted.images)
        members = [pair.index for pair in batch]
        records = []
        for i, pair in enumerate(batch):
            cost = {"unet_rows": round(painted.rows, 4), "seconds": round(painted.seconds, 4)}
            warned = {"warnings": painted.warnings[i] if painted.warnings else None}
            mask = {"flicker": rounded(painted.flicker()[i]), "coverage": rounded(painted.coverage()[i])}
            records.append({"pair": pair.index, "batch": members, **judged[i], **mask, **warned, **cost})
            if pair.index < PICTURES_KEPT:
                path = self.picture_path(method, pair.index)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(painted.images[i]).save(path)
        return records

    def picture_path(self, method: Method, pair: int) -> Path:
        return self.cache / self.split / "pictures" / key_of(method, self.sampling, self.device) / f"{pair:04d}.png"

    def pictures(self, method: Method, pairs: list[Pair]) -> list[np.ndarray]:
        """The pictures that were kept of these pairs."""
        paths = [self.picture_path(method, pair.index) for pair in pairs]
        return [np.asarray(Image.open(path).convert("RGB")) for path in paths if path.exists()]


def in_order(methods: list[Method]) -> list[Method]:
    """Plain first, and added where another method needs to know where its heads are."""
    plain = METHODS["plain"]
    wanted = any(method.needs_boxes or method.name == "plain" for method in methods)
    return [plain] * wanted + [method for method in methods if method.name != "plain"]


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
