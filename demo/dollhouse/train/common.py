"""What every training run shares: the drawn data set, resumable state, the learning-rate schedule, the model card."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from demo.dollhouse.draw import draw
from demo.dollhouse.world import Picture, Truth, random_picture

ROOT = Path(__file__).resolve().parents[1]
torch.set_flush_denormal(True)
CACHE = ROOT / "cache"
WEIGHTS = ROOT / "weights"
SIZE = 128


def drawn_pictures(n: int, seed: int, size: int = SIZE) -> tuple[np.ndarray, list[tuple[Picture, Truth]]]:
    """`n` pictures (n, size, size, 3) uint8 and their truths; drawn once, then read from the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"pictures_{n}_{seed}_{size}"
    if not path.with_suffix(".pkl").exists():
        rng = np.random.default_rng(seed)
        images, truths = np.empty((n, size, size, 3), np.uint8), []
        for i in range(n):
            picture = random_picture(rng)
            images[i], truth = draw(picture, size, size)
            truths.append((picture, truth))
        np.save(path.with_suffix(".npy"), images)
        path.with_suffix(".pkl").write_bytes(pickle.dumps(truths))
    # Our own file, written a moment ago in our own cache folder.
    return np.load(path.with_suffix(".npy"), mmap_mode="r"), pickle.loads(path.with_suffix(".pkl").read_bytes())


def to_tensor(images: np.ndarray) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(x: Tensor) -> np.ndarray:
    """(n, 3, H, W) in [-1, 1] -> (n, H, W, 3) uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


class Run:
    """A resumable training run: AdamW, cosine schedule with warm-up, EMA weights, a checkpoint every few minutes.

    Every step draws from a generator seeded with (seed, step), so a resumed run sees what an unbroken one sees.
    """

    def __init__(self, name: str, model: nn.Module, steps: int, lr: float, ema: float = 0.999, seed: int = 0):
        self.name, self.model, self.steps, self.lr, self.seed = name, model, steps, lr, seed
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=lr, weight_decay=1e-2, betas=(0.9, 0.99))
        self.ema_decay, self.step = ema, 0
        self.ema = [p.detach().clone() for p in self.trained]
        self.path = CACHE / f"run_{name}.pt"
        CACHE.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            for p, value in zip(self.trained, state["model"], strict=True):
                p.data.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema, self.step = state["ema"], state["step"]

    def save(self) -> None:
        state = {"model": [p.data for p in self.trained], "ema": self.ema, "step": self.step}
        partial = self.path.with_suffix(".partial")
        torch.save({**state, "optimizer": self.optimizer.state_dict()}, partial)
        partial.replace(self.path)

    def _lr(self) -> float:
        warm = min(1.0, (self.step + 1) / 100)
        return float(self.lr * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * self.step / self.steps))))

    def rngs(self) -> Iterator[tuple[np.random.Generator, torch.Generator]]:
        while self.step < self.steps:
            yield (
                np.random.default_rng((self.seed, self.step)),
                torch.Generator().manual_seed(self.seed * 10**6 + self.step),
            )

    def train(self, loss_of: Callable[[np.random.Generator, torch.Generator], Tensor], log_every: int = 50) -> None:
        began, saved, mean = time.time(), time.time(), None
        first = self.step
        for rng, generator in self.rngs():
            for group in self.optimizer.param_groups:
                group["lr"] = self._lr()
            loss = loss_of(rng, generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.ema, [p.data for p in self.trained], 1 - decay)
            self.step += 1
            mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
            if self.step % log_every == 0 or self.step == self.steps:
                pace = (time.time() - began) / (self.step - first)
                left = pace * (self.steps - self.step) / 60
                print(
                    f"{self.name} {self.step}/{self.steps} loss {mean:.4f} {pace:.3f} s/step, {left:.1f} min left",
                    flush=True,
                )
            if time.time() - saved > 120 or self.step == self.steps:
                self.save()
                saved = time.time()

    def use_ema(self) -> None:
        for p, value in zip(self.trained, self.ema, strict=True):
            p.data.copy_(value)


def write_card(name: str, figures: dict[str, object]) -> None:
    """Add a model's measured figures to the card that is shipped beside the weights."""
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    path = WEIGHTS / "card.json"
    card = json.loads(path.read_text()) if path.exists() else {}
    card[name] = figures
    path.write_text(json.dumps(dict(sorted(card.items())), indent=1) + "\n")
    print(name, json.dumps(figures), flush=True)
