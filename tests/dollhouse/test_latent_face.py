"""The recogniser of latents: it looks where the face is, and it learns to say what its teacher says."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from demo.dollhouse.draw import draw
from demo.dollhouse.train import diffusion, latent_face
from demo.dollhouse.world import Picture, random_identity
from lib_beyondfacial.faces.alignment import CROP, align_face

from .conftest import make_place


def test_the_grid_cuts_what_align_face_cuts():
    picture = Picture(random_identity(np.random.default_rng(3)), "city", "running", "half")
    image, truth = draw(picture, 192, 192)
    grid = F.affine_grid(latent_face.face_grids([(picture, truth)], 192), [1, 3, CROP, CROP], align_corners=False)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    found = F.grid_sample(pixels, grid, align_corners=False)[0].permute(1, 2, 0).numpy()
    wanted = align_face(image, truth.landmarks).astype(np.float32)
    assert np.abs(cv2.blur(found - wanted, (3, 3))).mean() < 1  # of 255; cv2 rounds its places to 1/32 px


def test_a_guess_without_error_is_the_picture_itself(tmp_path):
    noise = diffusion.Noise(make_place(tmp_path))
    generator = torch.Generator().manual_seed(1)
    z, eps = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 4, 8, 8, generator=generator)
    t = torch.tensor([1, 500, 999])
    assert torch.allclose(noise.denoised(diffusion.Guess(z, t, eps, eps)), z)
    a = noise.abar[t][:, None, None, None]
    rows = a.sqrt() * z + (1 - a).sqrt() * eps
    wanted = (rows - (1 - a).sqrt() * (eps + 0.1)) / a.sqrt()
    assert torch.allclose(noise.denoised(diffusion.Guess(z, t, eps, eps + 0.1)), wanted, atol=1e-4)


def test_the_loss_is_its_weights_and_its_levels_by_hand(tmp_path):
    noise, t = diffusion.Noise(make_place(tmp_path)), torch.tensor([0, 999])
    zeros, half = torch.zeros(1, 4, 6, 6), torch.zeros(1, 4, 6, 6)
    half[..., :3] = 1  # an error of 1 in the left half: so in half of its 2 x 2 thumbnail
    left = torch.ones(1, 6, 6)
    left[..., :3] = 3  # weighs 1.5 of 2 when the mean is 1
    for level, weight in ((0, 1.0), (1, diffusion.FULL)):
        snr = float(noise.abar[t[level]] / (1 - noise.abar[t[level]]))
        guess = diffusion.Guess(zeros, t[level : level + 1], zeros, half)
        by_level = min(snr, 5) / snr * weight
        for where, share in ((None, 0.5), (left, 0.75)):
            found = float(noise.loss(guess, where))
            assert abs(found / (share * (1 + diffusion.COARSE_WEIGHT) * by_level) - 1) < 1e-4


def test_the_student_learns_what_the_teacher_says(monkeypatch):
    monkeypatch.setattr(latent_face, "FACES_A_STEP", 1)
    monkeypatch.setattr(latent_face, "BATCH", 16)
    generator = torch.Generator().manual_seed(2)
    faces = torch.randn(64, 4, latent_face.SIDE, latent_face.SIDE, generator=generator)
    teacher = torch.randn(4, latent_face.EMBEDDING_SIZE, generator=generator)
    embeddings = F.normalize(faces.mean((2, 3)) @ teacher, dim=1)
    net, cosine = latent_face.train_latent_face(faces, embeddings, torch.device("cpu"))
    assert cosine > 0.8
    assert not any(p.requires_grad for p in net.parameters())
    assert torch.allclose(net(faces[:2]).norm(dim=1), torch.ones(2), atol=1e-5)
