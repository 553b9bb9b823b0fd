"""Pictures and tensors, the heads in them, and the trained autoencoder: what the runs on pictures share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from demo.dollhouse.train.place import Place
from demo.dollhouse.world import SHOTS
from demo.nets.vae import AutoencoderKL
from lib_beyondfacial.faces.alignment import CROP, TEMPLATE, similarity_transform


def to_tensor(images: np.ndarray) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) in [-1, 1]."""
    return to_float(torch.from_numpy(np.ascontiguousarray(images)))


def to_float(images: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) in [-1, 1], where the pictures are."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(x: Tensor) -> np.ndarray:
    """(n, 3, H, W) in [-1, 1] -> (n, H, W, 3) uint8."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


# A full shot's head is 3% of the picture and holds the whole identity: its pixels weigh more, the smaller the more.
# From the brows to the chin once more: an expression is a few pixels of a mouth.
HEAD_WEIGHT = {"close-up": 1.0, "half": 2.0, "full": 4.0}
HEAD_SHARE = 0.75  # of the crops that are laid round a head


class Pictures:
    """Drawn pictures on the device, where their heads are, and crops of them."""

    def __init__(self, images: np.ndarray, truths: list, device: torch.device):
        # On a GPU the pictures live there; on a CPU they stay in their file.
        self.images = torch.from_numpy(images).to(device)
        heads = [(t.heads[0], t.heads[-1]) for _, t in truths]  # of one person: twice the same
        boxes = np.array([[h.head_box for h in both] for both in heads], np.float32)
        faces = np.array([[face_box(h.landmarks) for h in both] for both in heads], np.float32)
        self.centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        self.boxes, self.face_boxes = (torch.from_numpy(v).to(device) for v in (boxes, faces))
        self.weights = torch.tensor([HEAD_WEIGHT[p.shot] for p, _ in truths], device=device)
        self.is_small = np.array([p.shot != SHOTS[0] for p, _ in truths])
        inverse = [[invert(similarity_transform(h.landmarks, TEMPLATE)) for h in both] for both in heads]
        self.to_picture = torch.from_numpy(np.array(inverse, np.float32)).to(device)

    def __len__(self) -> int:
        return len(self.images)

    def places(self, rng: np.random.Generator, n: int, size: int, step: int = 1) -> np.ndarray:
        """(n, 3): picture, left, top of n crops, most of them round a head, at multiples of `step`."""
        limit = self.images.shape[1] - size
        picked = rng.integers(len(self), size=n)
        anywhere = rng.uniform(0, limit + 1, (n, 2))
        heads = self.centres[picked, rng.integers(2, size=n)] - size / 2 + rng.uniform(-size / 6, size / 6, (n, 2))
        corners = np.where((np.arange(n) < HEAD_SHARE * n)[:, None], heads, anywhere)
        corners = np.clip(corners / step, 0, limit // step).astype(np.int64) * step
        return np.concatenate([picked[:, None], corners], 1)

    def cut(self, places: Tensor, size: int) -> Tensor:
        """The crops that `places` names: (n, 3, size, size) in [-1, 1]."""
        return to_float(cut(self.images, places, size))

    def weight(self, places: Tensor, size: int) -> Tensor:
        """(n, 1, size, size): how much every pixel counts, 1 outside the heads."""
        i, x, y = places.T
        along = torch.arange(size, device=places.device)
        xs, ys = (v[:, None, None] + along for v in (x, y))
        weight = torch.ones(len(places), size, size, device=places.device)
        for boxes in (self.boxes[i], self.face_boxes[i]):
            inside_x = (xs >= boxes[..., :1]) & (xs < boxes[..., 2:3])
            inside_y = (ys >= boxes[..., 1:2]) & (ys < boxes[..., 3:4])
            inside = (inside_x[:, :, None] & inside_y[..., None]).any(1)
            weight += inside * self.weights[i][:, None, None]
        return weight[:, None]

    def faces(self, crops: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """The aligned faces (n, 3, 112, 112) in crops, differentiably, and which of them lie wholly inside. Of two
        people, the one who is nearer to the crop's middle."""
        i, size = places[:, 0], crops.shape[-1]
        middles = (self.boxes[i, :, :2] + self.boxes[i, :, 2:]) / 2
        nearer = (middles - places[:, None, 1:] - size / 2).square().sum(-1).argmin(1)
        along = torch.arange(CROP, device=crops.device, dtype=torch.float32)
        # Sums of products, not a matrix product: autocast would round the coordinates to half a pixel.
        turn_x, turn_y, shift = self.to_picture[i, nearer][:, None, None].unbind(-1)
        at = turn_x * along[None, None, :, None] + turn_y * along[None, :, None, None]
        at = at + shift - places[:, 1:].float()[:, None, None]
        middle = at[:, CROP // 4 : -CROP // 4, CROP // 4 : -CROP // 4].flatten(1)
        is_inside = (middle.amin(1) >= 0) & (middle.amax(1) <= size - 1)
        return F.grid_sample(crops, at * (2 / (size - 1)) - 1, align_corners=True), is_inside


def face_box(landmarks: np.ndarray) -> tuple[float, float, float, float]:
    """From the brows to the chin, by the landmarks' own extent."""
    (x0, y0), (x1, y1) = landmarks.min(0), landmarks.max(0)
    return x0 - 0.3 * (x1 - x0), y0 - 0.6 * (y1 - y0), x1 + 0.3 * (x1 - x0), y1 + 0.6 * (y1 - y0)


def invert(matrix: np.ndarray) -> np.ndarray:
    turn = np.linalg.inv(matrix[:, :2])
    return np.concatenate([turn, -turn @ matrix[:, 2:]], 1)


def cut(images: Tensor, places: Tensor, size: int) -> Tensor:
    """Squares of (n, H, W, C) at (index, left, top): (len(places), size, size, C)."""
    i, x, y = places.T
    along = torch.arange(size, device=places.device)
    return images[i[:, None, None], (y[:, None] + along)[:, :, None], (x[:, None] + along)[:, None]]


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def picture_loss(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Absolute, squared and gradient differences of pictures, weighted by pixel."""
    weight = weight / weight.mean()
    off = x - y
    edges = sum(
        (w * d.abs()).mean() for d, w in zip(gradients(off), (weight[..., 1:], weight[..., 1:, :]), strict=True)
    )
    return (weight * (off.abs() + 0.5 * off**2)).mean() + 0.5 * edges


def load_vae(place: Place, path: Path | None = None) -> AutoencoderKL:
    """Frozen; the one as it is now, or that of a file."""
    model = AutoencoderKL()
    model.load_state_dict({k: v.float() for k, v in load_file(path or place.vae).items()})
    return place.put(model.eval().requires_grad_(False))
