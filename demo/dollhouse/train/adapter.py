"""Train the identity adapter the way the world trains them: `python -m demo.dollhouse.train.adapter`.

Frozen UNet and text model; a corpus of which 92% are close-ups, with captions that rarely name the shot. That is what
makes the disease: the identity's tokens mean "close-up" to it. Written in IP-Adapter FaceID's layout (`image_proj`,
`ip_adapter`), 4 tokens.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from demo.dollhouse.align import aligned_crop
from demo.dollhouse.draw import draw
from demo.dollhouse.train.common import CACHE, SIZE, WEIGHTS, Run, write_card
from demo.dollhouse.train.diffusion import CHECKPOINT, SCALE_FACTOR, TextToLatent, alphas_cumprod, eps_loss, load_vae
from demo.dollhouse.train.text import FOLDER, WIDTH, tokenize
from demo.dollhouse.train.vae import encode_means
from demo.dollhouse.world import Picture, caption, random_identity, random_picture
from lib_beyondfacial.hosts.unet_sites import enumerate_sites

CLOSE_UPS = 0.92
TOKENS, HIDDEN = 4, 256
PACK = WEIGHTS / "models" / "insightface" / "models" / "dollhouse"
FILE = WEIGHTS / "models" / "ipadapter" / "dollhouse-faceid.safetensors"


class Recogniser:
    """The pack's rec.onnx on faces cut out by their true landmarks: (n, 512), unit norm."""

    def __init__(self):
        self.net = cv2.dnn.readNetFromONNX(str(PACK / "rec.onnx"))

    def embed(self, crops: list[np.ndarray]) -> np.ndarray:
        out = []
        for crop in crops:
            self.net.setInput(cv2.dnn.blobFromImage(crop, 1 / 127.5, (112, 112), (127.5, 127.5, 127.5), swapRB=False))
            raw = self.net.forward()[0]
            out.append(raw / np.linalg.norm(raw))
        return np.stack(out)


def corpus(n: int, seed: int = 11) -> tuple[Tensor, Tensor, list[Picture]]:
    """Latents of n pictures, the embedding of each one's person from *another* close-up, and the pictures."""
    path = CACHE / f"corpus_{n}_{seed}.pt"
    rng = np.random.default_rng(seed)
    pictures, images, embeddings = [], [], []
    recogniser = None if path.exists() else Recogniser()
    for _ in range(n):
        who = random_identity(rng)
        shot = "close-up" if rng.random() < CLOSE_UPS else str(rng.choice(["half", "full"]))
        pictures.append(random_picture(rng, who, shot=shot))
        other = random_picture(rng, who, shot="close-up", style="flat")
        if recogniser:
            images.append(draw(pictures[-1], SIZE, SIZE)[0])
            photo, truth = draw(other, SIZE, SIZE)
            embeddings.append(recogniser.embed([aligned_crop(photo, truth.landmarks)])[0])
    if recogniser:
        latents = encode_means(load_vae(), np.stack(images)) * SCALE_FACTOR
        torch.save({"latents": latents, "embeddings": torch.from_numpy(np.stack(embeddings))}, path)
    stored = torch.load(path, weights_only=True)
    return stored["latents"], stored["embeddings"].float(), pictures


class Adapter(nn.Module):
    """FaceID's projection, and K and V of the tokens at every cross-attention."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(512, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, TOKENS * WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.to_k = nn.ModuleList([nn.Linear(WIDTH, w, bias=False) for w in widths])
        self.to_v = nn.ModuleList([nn.Linear(WIDTH, w, bias=False) for w in widths])
        for layer in self.to_v:
            nn.init.normal_(layer.weight, std=0.01)

    def tokens(self, embedding: Tensor) -> Tensor:
        return self.norm(self.proj(embedding).unflatten(-1, (TOKENS, WIDTH)))

    def state(self) -> dict[str, Tensor]:
        """The file's keys: N counts self- and cross-attentions, so cross-attention i is 2 i + 1."""
        out = {f"image_proj.{k}": v for k, v in self.state_dict().items() if k.startswith(("proj.", "norm."))}
        for i, (k, v) in enumerate(zip(self.to_k, self.to_v, strict=True)):
            out |= {
                f"ip_adapter.{2 * i + 1}.to_k_ip.weight": k.weight,
                f"ip_adapter.{2 * i + 1}.to_v_ip.weight": v.weight,
            }
        return out


def attach(unet: nn.Module, adapter: Adapter, box: dict[str, Tensor]) -> None:
    """Training's own hooks on the leaves; `box["tokens"]` holds the batch's tokens (B, 4, C)."""

    def hooks_of(number: int, heads: int) -> tuple:
        def keep(module: nn.Module, args: tuple, query: Tensor) -> None:
            box["query"] = query

        def add(module: nn.Module, args: tuple) -> tuple:
            q, k, v = (
                t.unflatten(-1, (heads, -1)).transpose(1, 2)
                for t in (box["query"], adapter.to_k[number](box["tokens"]), adapter.to_v[number](box["tokens"]))
            )
            return (args[0] + nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2),)

        return keep, add

    for number, site in enumerate(enumerate_sites(unet)):
        keep, add = hooks_of(number, site.site.heads)
        site.attn2.to_q.register_forward_hook(keep)
        site.attn2.to_out[0].register_forward_pre_hook(add)


def load_base() -> TextToLatent:
    """The shipped checkpoint's UNet and text model, frozen."""
    state = {k: v.float() for k, v in load_file(CHECKPOINT).items()}
    model = TextToLatent()
    unet, text = "model.diffusion_model.", "cond_stage_model.transformer."
    model.unet.load_state_dict({k[len(unet) :]: v for k, v in state.items() if k.startswith(unet)})
    model.text.load_state_dict({k[len(text) :]: v for k, v in state.items() if k.startswith(text)}, strict=False)
    return model.requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--pictures", type=int, default=3000)
    args = parser.parse_args()
    torch.manual_seed(0)
    latents, embeddings, pictures = corpus(args.pictures)
    tokenizer, abar, model = CLIPTokenizer.from_pretrained(FOLDER), alphas_cumprod(), load_base()
    adapter = Adapter([site.site.width for site in enumerate_sites(model.unet)])
    box: dict[str, Tensor] = {}
    attach(model.unet, adapter, box)
    run = Run("adapter", adapter, args.steps, lr=1e-3, ema=0.995)

    def loss_of(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        picked = rng.integers(len(latents), size=16)
        texts = [
            caption(pictures[i], rng, shot_chance=0.1, looks_chance=0.15) if rng.random() > 0.1 else "" for i in picked
        ]
        dropped = torch.from_numpy(rng.random(16) < 0.1)
        box["tokens"] = adapter.tokens(torch.where(dropped[:, None], 0.0, embeddings[picked]))
        return eps_loss(model, latents[picked], tokenize(texts, tokenizer), abar, generator)

    run.train(loss_of, log_every=50)
    run.use_ema()
    FILE.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().half().contiguous() for k, v in adapter.state().items()}, FILE)
    write_card("adapter", {"steps": run.step, "pictures": args.pictures, "close_ups": CLOSE_UPS, "tokens": TOKENS})


if __name__ == "__main__":
    main()
