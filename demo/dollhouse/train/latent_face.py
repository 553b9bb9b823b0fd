"""A recogniser that reads latents: the feeding recogniser's student, which the adapter's training asks whether a head
that is still being denoised becomes the person (as PuLID's identity loss asks a face recogniser). Never the judge's.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib_beyondfacial.common import EMBEDDING_SIZE
from lib_beyondfacial.faces.alignment import CROP, TEMPLATE, similarity_transform

SIDE = 16  # of an aligned face in latents
READABLE = 600  # timesteps below which a prediction shows a face
SHOWN = 4096  # predictions that the student learns to read
FACES_A_STEP = 13  # of all there are: how many steps they are good for
BATCH, LR = 96, 2e-3


class LatentFace(nn.Module):
    """Aligned latents (B, 4, SIDE, SIDE) -> unit embeddings (B, 512), near the feeding recogniser's."""

    def __init__(self) -> None:
        super().__init__()

        def part(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.SiLU()]

        self.body = nn.Sequential(
            *part(4, 48), *part(48, 48), *part(48, 96, 2), *part(96, 96), *part(96, 128, 2), nn.Flatten()
        )
        self.out = nn.Linear(128 * (SIDE // 4) ** 2, EMBEDDING_SIZE)

    def forward(self, faces: Tensor) -> Tensor:
        return F.normalize(self.out(self.body(faces)), dim=1)


def face_grids(truths: list, size: int) -> Tensor:
    """(n, 2, 3): from a face's own square to its place in the picture, for `F.affine_grid`."""
    grids = []
    for _, truth in truths:
        to_crop = np.vstack([similarity_transform(truth.landmarks, TEMPLATE), [0, 0, 1]])
        # Pixel 0's middle is at 0 for landmarks and half a pixel inside the edge, which is -1, for grids.
        middle, first = (CROP - 1) / 2, 1 / size - 1
        crop = np.array([[CROP / 2, 0, middle], [0, CROP / 2, middle], [0, 0, 1]])
        picture = np.array([[2 / size, 0, first], [0, 2 / size, first], [0, 0, 1]])
        grids.append((picture @ np.linalg.inv(to_crop) @ crop)[:2])
    return torch.from_numpy(np.array(grids)).float()


def aligned(latents: Tensor, grids: Tensor) -> Tensor:
    """The faces in latents (B, 4, h, w), upright: (B, 4, SIDE, SIDE)."""
    grid = F.affine_grid(grids, [len(latents), latents.shape[1], SIDE, SIDE], align_corners=False)
    return F.grid_sample(latents, grid, padding_mode="border", align_corners=False)


def train_latent_face(faces: Tensor, embeddings: Tensor, device: torch.device) -> tuple[LatentFace, float]:
    """The student, frozen, and its mean cosine to the teacher over the last steps."""
    torch.manual_seed(5)
    net = LatentFace().to(device)
    steps = max(1, len(faces) // FACES_A_STEP)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)
    generator, cosine = torch.Generator().manual_seed(5), 0.0
    for _ in range(steps):
        i = torch.randint(0, len(faces), (BATCH,), generator=generator).to(device)
        mean = (net(faces[i]) * embeddings[i]).sum(1).mean()
        optimizer.zero_grad()
        (1 - mean).backward()
        optimizer.step()
        schedule.step()
        cosine += 0.05 * (float(mean.detach()) - cosine)
    return net.requires_grad_(False), cosine
