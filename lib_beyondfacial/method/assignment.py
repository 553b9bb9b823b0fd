"""Which head of a picture is whose (docs/method.md eq. 16-17). Boxes are (x0, y0, x1, y1) in shares of the picture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention_maps import average_sites, normalise
from .predictions import Predictions

HeadBox = tuple[float, float, float, float]

MAX_PERSONS = 4
HEAD_LEVEL = 0.6  # a place of the map above it belongs to a head
MINOR_HEAD = 0.2  # a blob of less than this share of the largest one's sum is no head
GAP = 0.04  # of the shorter side: places of the map that are less than twice that apart are of one head
ETA = 10.0  # sharpness of eq. 16's softmax
COLUMN = 3.0  # width, in heads, of the column below a head in which its body is
GENDER_COST = 0.25  # of a face whose gender is not the person's; attention costs 0 to 1
ORDER_COST = 0.05  # of two persons who stand the other way round than the prompt names them


@dataclass(frozen=True)
class Head:
    """A head of one picture. strength: by which the most prominent are chosen, where there are more than persons."""

    box: HeadBox
    strength: float

    @property
    def x(self) -> float:
        return (self.box[0] + self.box[2]) / 2

    @property
    def y(self) -> float:
        return (self.box[1] + self.box[3]) / 2


def compute_shares(attention: Tensor) -> Tensor:
    """How each place is shared out among the persons, by attention to their words (docs/method.md eq. 16).

        a'_k = a_k - mean of the other a_j;   e_k = softmax over k of (eta a'_k)

    Args:
        attention: (K, H, W), a_k in [0, 1].

    Returns (K, H, W), in sum 1; of one person it is exactly 1.
    """
    others = (attention.sum(0) - attention) / max(len(attention) - 1, 1)
    return (ETA * (attention - others)).softmax(0)


def find_blobs(a: Tensor) -> list[Head]:
    """The blobs of {A > 0.6} of one picture's map (H, W), from the left: one a head.

    Parts with a gap of less than about a third of a head are one; specks beside a large blob are left out.
    """
    a = a.float().cpu()
    height, width = a.shape
    inside = a > HEAD_LEVEL
    gap = max(1, round(GAP * min(height, width)))
    labels = label_blobs(dilate(inside, gap)) * inside
    heads = []
    for label in labels[inside].unique().tolist():
        y, x = torch.nonzero(labels == label, as_tuple=True)
        box = (int(x.min()) / width, int(y.min()) / height, (int(x.max()) + 1) / width, (int(y.max()) + 1) / height)
        heads.append(Head(box, float(a[labels == label].sum())))
    largest = max((head.strength for head in heads), default=0.0)
    return sorted((head for head in heads if head.strength >= MINOR_HEAD * largest), key=lambda head: head.x)


def dilate(inside: Tensor, radius: int) -> Tensor:
    """A mask (H, W) widened by `radius` px on all sides, corners too."""
    columns = F.max_pool2d(inside.float()[None], (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(columns, (1, 2 * radius + 1), stride=1, padding=(0, radius))[0] > 0


def label_blobs(inside: Tensor) -> Tensor:
    """A number above 0 for each connected part of a mask (H, W), corners counted; 0 outside."""
    labels = torch.arange(1, inside.numel() + 1, dtype=torch.float32).view(inside.shape) * inside
    while True:
        grown = F.max_pool2d(labels[None], 3, stride=1, padding=1)[0] * inside
        if torch.equal(grown, labels):
            return labels
        labels = grown


def cells_of(heads: Sequence[Head], size: tuple[int, int]) -> Tensor:
    """To which head each place is nearest: (J, H, W) bool, one of them true everywhere.

    size: (H, W) of the latents, whose pixels are square.
    """
    height, width = size
    y = (torch.arange(height) + 0.5)[:, None]
    x = (torch.arange(width) + 0.5)[None]
    distances = torch.stack([(y - head.y * height) ** 2 + (x - head.x * width) ** 2 for head in heads])
    return F.one_hot(distances.argmin(0), len(heads)).bool().movedim(-1, 0)


def compute_costs(
    attention: Sequence[Tensor],
    heads: Sequence[Head],
    genders: Sequence[str | None] = (),
    genders_of_heads: Sequence[str | None] = (),
) -> list[list[float]]:
    """What each person at each head costs (docs/method.md eq. 17), by person.

        cost_kj = -(mean of a_k in the column below head j) + 0.25 where the genders, if both are known, differ

    Args:
        attention: by person, a_k (H, W) in [0, 1], of the words that mean this person.
    """
    costs = [[-column_mean(a, head) for head in heads] for a in attention]
    for of_person, gender in zip(costs, genders, strict=False):
        for j, other in enumerate(genders_of_heads):
            of_person[j] += GENDER_COST * bool(gender and other and gender != other)
    return costs


def column_mean(a: Tensor, head: Head) -> float:
    """The map's mean from the top of a head down to the picture's lower edge, three heads wide."""
    height, width = a.shape
    half = COLUMN * (head.box[2] - head.box[0]) / 2
    x0, x1 = math.floor(max(head.x - half, 0) * width), math.ceil(min(head.x + half, 1) * width)
    y0 = math.floor(max(head.box[1], 0) * height)
    column = a[y0:, x0:x1]
    return float(column.float().mean()) if column.numel() else 0.0


def assign(
    costs: Sequence[Sequence[float]], positions: Sequence[int] = (), ranks: Sequence[int] = ()
) -> tuple[int | None, ...]:
    """The head of each person with the least sum of costs; None for who gets none, where there are fewer heads.

    Exact, by trying every permutation; of equal ones that from the left. As many persons as can be get a head.

    Args:
        costs: by person, of each head; the heads are from the left.
        positions: by person, 1 for the leftmost head, and so on; 0: by the costs.
        ranks: by person, the order from the left that the prompt suggests; each pair that stands otherwise costs .05.
    """
    count = len(costs[0]) if costs else 0
    fixed = {k: p - 1 for k, p in enumerate(positions) if p}
    free = [k for k in range(len(costs)) if k not in fixed]
    left: list[int | None] = [j for j in range(count) if j not in fixed.values()]
    left += [None] * max(0, len(free) - len(left))

    def total(chosen: Sequence[int | None]) -> float:
        pairs = [(k, j) for k, j in zip(free, chosen, strict=True) if j is not None]
        turned = sum((ranks[k] < ranks[m]) != (j < n) for (k, j), (m, n) in itertools.combinations(pairs, 2) if ranks)
        return sum(costs[k][j] for k, j in pairs) + ORDER_COST * turned

    chosen = min(itertools.permutations(left, len(free)), key=total)
    found = {k: j if j < count else None for k, j in fixed.items()} | dict(zip(free, chosen, strict=True))
    return tuple(found[k] for k in range(len(costs)))


def most_prominent(heads: Sequence[Head], positions: Sequence[int]) -> list[int]:
    """Which heads, from the left, are up for assignment: as many as there are persons, or as the last position."""
    wanted = max(len(positions), *positions, 1)
    strongest = sorted(range(len(heads)), key=lambda j: -heads[j].strength)[:wanted]
    return sorted(strongest, key=lambda j: heads[j].x)


class HeadAssignment:
    """Whose head is where in each picture of a pass, and which part of the maps is whose.

    A head is chosen at the first level at which as many stand out as there are persons, and is followed; the head
    refinement, which sees faces, chooses for good.

    Args:
        positions: by line, 1 for the leftmost head and so on; 0: by attention to the words that mean the person.
        ranks: by picture and line, the order from the left that the picture's prompt suggests.
    """

    def __init__(self, positions: Mapping[str, int], ranks: Sequence[Sequence[int]] = ()):
        self.positions, self.ranks = dict(positions), ranks
        self.words: Mapping[str, Tensor] = {}  # by line, of the latest level
        self._followed: dict[int, dict[str, Head]] = {}  # by picture, by line
        self._faces: dict[int, tuple[Sequence[Head], Mapping[str, int]]] = {}  # by picture: its faces, and whose

    def cut_maps(self, maps: Mapping[str, Tensor], predictions: Predictions) -> Mapping[str, Tensor]:
        """Each line's map, cut to its own head: A_k <- A_k e_k (docs/method.md eq. 16).

        Args:
            maps: A of eq. 3 by line, (B, 1, H, W) in [0, 1]. One person's map with one head stays as it is.
        """
        if not maps:
            return maps
        if len(self.positions) > 1:
            self.words = compute_word_maps(predictions)
        together = torch.stack(list(maps.values())).amax(0)[:, 0].float().cpu()  # one wait for the whole batch
        shares = [self.shares_of(image, a) for image, a in enumerate(together)]
        if all(each is None for each in shares):
            return maps
        whole = torch.ones(predictions.size)
        return {
            name: a * torch.stack([whole if each is None else each[name] for each in shares])[:, None].to(a)
            for name, a in maps.items()
        }

    def shares_of(self, image: int, a: Tensor) -> Mapping[str, Tensor] | None:
        """e_k of one picture by line, (H, W); None where all of it is the one person's.

        Args:
            a: (H, W), the map of all heads.
        """
        heads, places = self._faces.get(image) or self._from_blobs(image, find_blobs(a))
        if len(self.positions) == 1 and len(heads) <= 1 and (places or not heads):
            return None
        if len(heads) < len(self.positions) and not places:
            return self._shares_by_words(image)
        size = (a.shape[0], a.shape[1])
        cells = cells_of(heads, size).float()
        return {name: cells[places[name]] if name in places else torch.zeros(size) for name in self.positions}

    def _from_blobs(self, image: int, blobs: Sequence[Head]) -> tuple[Sequence[Head], Mapping[str, int]]:
        """The heads that the map shows, and whose they are; nobody's as long as there are fewer than persons."""
        if image in self._followed:
            return blobs, self._follow(self._followed[image], blobs)
        if len(blobs) < len(self.positions):
            return blobs, {}
        places = self._choose(image, blobs)
        if len(blobs) > 1:
            self._followed[image] = {name: blobs[j] for name, j in places.items()}
        return blobs, places

    def _shares_by_words(self, image: int) -> Mapping[str, Tensor] | None:
        words = [self.words[name][image, 0].cpu() for name in self.positions if name in self.words]
        if len(words) < len(self.positions):
            return None
        return dict(zip(self.positions, compute_shares(torch.stack(words)), strict=True))

    def choose_faces(
        self,
        image: int,
        faces: Sequence[Head],
        genders: Sequence[str | None],
        genders_of_faces: Sequence[str | None],
        settled: Mapping[str, int] | None = None,
    ) -> Mapping[str, int]:
        """By line, which of a picture's faces is its person's, for the rest of the pass (docs/method.md eq. 17).

        Lines without a face are missing. genders: by line. settled: the lines whose face an earlier search has chosen,
        and that face; nobody else gets it.
        """
        places = self._choose(image, faces, genders, genders_of_faces, settled or {})
        if len(self.positions) > 1 or len(faces) > 1:  # else the map stays what it is without the refinement
            self._faces[image] = faces, places
        return places

    def _choose(
        self,
        image: int,
        heads: Sequence[Head],
        genders: Sequence[str | None] = (),
        genders_of_heads: Sequence[str | None] = (),
        settled: Mapping[str, int] = MappingProxyType({}),
    ) -> dict[str, int]:
        chosen = most_prominent(heads, list(self.positions.values()))
        kept = {name: chosen.index(j) + 1 for name, j in settled.items()}
        positions = [kept.get(name, 0 if at in kept.values() else at) for name, at in self.positions.items()]
        nothing = torch.zeros(1, 1)  # the same at every head: then the gender decides, or the prompt's order
        words = [self.words[name][image, 0].cpu() if name in self.words else nothing for name in self.positions]
        known = [genders_of_heads[j] for j in chosen] if genders_of_heads else []
        costs = compute_costs(words, [heads[j] for j in chosen], genders, known)
        ranks = self.ranks[image] if self.ranks else ()
        assigned = zip(self.positions, assign(costs, positions, ranks), strict=True)
        return {name: chosen[j] for name, j in assigned if j is not None}

    @staticmethod
    def _follow(known: dict[str, Head], blobs: Sequence[Head]) -> dict[str, int]:
        """By line, the blob that is nearest to where its head was."""
        costs = [[(blob.x - head.x) ** 2 + (blob.y - head.y) ** 2 for blob in blobs] for head in known.values()]
        places = {name: j for name, j in zip(known, assign(costs), strict=True) if j is not None}
        known.update((name, blobs[j]) for name, j in places.items())
        return places


def compute_word_maps(predictions: Predictions) -> dict[str, Tensor]:
    """a_k by line: attention to its person's words, (B, 1, H, W) in [0, 1]; lines without any are missing."""
    read = {
        name: average_sites(readings.subject, *predictions.size, relative=False)
        for name, readings in predictions.readings.items()
    }
    return {name: normalise(a) for name, a in read.items() if a is not None}
