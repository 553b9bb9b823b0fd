"""Train the identity adapter the way the world trains them: `python -m demo.dollhouse.train.adapter`.

Frozen UNet and text model; a corpus of which 92% are close-ups, with captions that rarely name the shot. That is what
makes the disease: the identity's tokens mean "close-up" to it. Written in IP-Adapter FaceID's layout (`image_proj`,
`ip_adapter`), 4 tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo.dollhouse.train.common import to_tensor
from demo.dollhouse.train.decoder import encoder_hash, latents_of
from demo.dollhouse.train.diffusion import EMPTY, Noise, TextToLatent, head_weights, load_base, pick_captions
from demo.dollhouse.train.drawing import draw_part, drawn, drawn_crops, training_pictures
from demo.dollhouse.train.latent_face import (
    READABLE,
    SHOWN,
    LatentFace,
    aligned,
    face_grids,
    train_latent_face,
)
from demo.dollhouse.train.place import Place
from demo.dollhouse.train.recogniser import load_feed
from demo.dollhouse.train.run import UNLIMITED, Budget, Plan, Run, single_run
from demo.dollhouse.train.text import WIDTH, WordTokenizer, caption_ids, empty_ids
from demo.dollhouse.world import (
    Identity,
    Picture,
    Truth,
    hair_words,
    random_identity,
    random_picture,
    skin_words,
    with_extras,
)
from lib_beyondfacial.common import EMBEDDING_SIZE
from lib_beyondfacial.faces.alignment import align_face
from lib_beyondfacial.unet.sites import enumerate_sites

PLANS = {"cpu": Plan(8000, 16, 1e-3, muon=True), "cuda": Plan(4000, 128, 1e-3, muon=True)}
CLOSE_UPS = 0.92  # fixed beforehand, not tuned to the result
TOKENS, HIDDEN = 4, 256
LIKENESS = 0.25  # weight of 1 - cosine to the person, by the recogniser of latents
DROPPED = 0.1  # of the identities, so that no identity (zeros) means something, too


def embed_crops(place: Place, crops: np.ndarray) -> Tensor:
    """Unit embeddings (n, 512) of aligned faces by the feeding recogniser, on the place's device."""
    net = load_feed(place)
    if net is None:
        raise SystemExit("Train the recogniser that feeds the adapter first: --which feed.")
    parts = [net(to_tensor(crops[i : i + 128]).to(place.device)) for i in range(0, len(crops), 128)]
    return nn.functional.normalize(torch.cat(parts).float(), dim=1)


def corpus(place: Place, seed: int = 11) -> tuple[Tensor, Tensor, list[tuple[Picture, Truth]]]:
    """Latents of the pictures, the embedding of each one's person from *another* close-up, and what they show."""
    rng, pictures, photos, n = np.random.default_rng(seed), [], [], place.amounts.corpus
    for _ in range(n):
        person = random_identity(rng)
        shot = "close-up" if rng.random() < CLOSE_UPS else str(rng.choice(["half", "full"]))
        pictures.append(with_extras(random_picture(rng, person, shot=shot), rng))
        photos.append(with_extras(random_picture(rng, person, shot="close-up", style="flat"), rng))
    images, truths = drawn(place, f"corpus_{n}", draw_part, pictures, (place.size, place.size, 3))
    crops = drawn_crops(place, "corpus_photos", photos)
    return latents_of(place, images, "corpus"), embed_crops(place, crops), list(zip(pictures, truths, strict=True))


class Adapter(nn.Module):
    """FaceID's projection, and K and V of the tokens at every cross-attention."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(EMBEDDING_SIZE, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, TOKENS * WIDTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.to_k = nn.ModuleList([nn.Linear(WIDTH, w, bias=False) for w in widths])
        self.to_v = nn.ModuleList([nn.Linear(WIDTH, w, bias=False) for w in widths])

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


def start_from_text(adapter: Adapter, unet: nn.Module) -> None:
    """K and V start as the text's own (as IP-Adapter's do): the tokens then speak a language that the UNet reads."""
    for site, k, v in zip(enumerate_sites(unet), adapter.to_k, adapter.to_v, strict=True):
        k.weight.data.copy_(site.attn2.to_k.weight)
        v.weight.data.copy_(site.attn2.to_v.weight)


def looks_words(person: Identity) -> tuple[str, list[int]]:
    """All of a head's looks in words, and which of the words (from 0) end hair, skin, eyes, and glasses or beard (the
    person word where there are none). Glasses and beard come first: the words after them have read them."""
    worn = [word for word, has in (("glasses", person.glasses), ("beard", person.beard)) if has]
    text, ends = f"a {person.gender} with", []
    for phrase in (*worn, hair_words(person), skin_words(person), f"{person.eyes} eyes"):
        text += f" {phrase}" if text.endswith("with") else f" and {phrase}"
        ends.append(len(text.split()) - 1)
    return text, [*ends[-3:], ends[len(worn) - 1] if worn else 1]


def latent_face(place: Place, model: TextToLatent, noise: Noise) -> tuple[LatentFace, float]:
    """The recogniser of latents, kept in the cache, and its mean cosine to its teacher. It learns from the UNet's
    training pictures, and from many of them as the UNet guesses them out of noise."""
    path, net = place.cache / f"latent_face_{encoder_hash(place)}.pt", LatentFace()
    if path.exists():
        kept = torch.load(path, weights_only=True)
        net.load_state_dict(kept["net"])
        return net.requires_grad_(False).to(place.device), kept["cosine"]
    images, truths = training_pictures(place)
    latents, ids = latents_of(place, images), caption_ids(place, [p for p, _ in truths], 23)[:, 0]
    crops = [align_face(image, truth.landmarks) for image, (_, truth) in zip(images, truths, strict=True)]
    grids, embeddings = face_grids(truths, place.size).to(place.device), embed_crops(place, np.stack(crops))
    generator, shown = torch.Generator(place.device).manual_seed(23), []
    with torch.no_grad():
        for start in range(0, min(SHOWN, len(latents)), 64):
            rows = slice(start, start + 64)
            guess = noise.guess(model, latents[rows], ids[rows], generator, READABLE)
            shown.append(aligned(noise.denoised(guess), grids[rows]))
        faces = torch.cat([aligned(latents, grids), *shown])
    embeddings = torch.cat([embeddings, embeddings[: len(faces) - len(embeddings)]])
    net, cosine = train_latent_face(faces, embeddings, place.device)
    torch.save({"net": net.state_dict(), "cosine": cosine}, path)
    print(f"the recogniser of latents: cosine {cosine:.3f} to its teacher", flush=True)
    return net, cosine


@torch.no_grad()
def words_of(model: TextToLatent, tokenizer: WordTokenizer, people: list[Identity]) -> Tensor:
    """(n, TOKENS, C): what the text model makes of the words for each one's looks, where each look's words end."""
    texts, ends = zip(*map(looks_words, people), strict=True)
    different = sorted(set(texts))
    ids = tokenizer(different).to(next(model.parameters()).device)
    by_text = dict(zip(different, torch.cat([model.cond(some) for some in ids.split(256)]), strict=True))
    # The start token comes before the first word.
    return torch.stack([by_text[text][[end + 1 for end in some]] for text, some in zip(texts, ends, strict=True)])


def start_from_words(adapter: Adapter, embeddings: Tensor, wanted: Tensor, steps: int = 1500) -> float:
    """The tokens start as the words for the person's looks, which the UNet knows: no picture is needed for that.

    Returns the squared error that is left, as a share of the words' variance.
    """
    trained = [*adapter.proj.parameters(), *adapter.norm.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator, loss = torch.Generator().manual_seed(3), torch.zeros(())
    for _ in range(steps):
        i = torch.randint(0, len(embeddings), (256,), generator=generator).to(embeddings.device)
        loss = nn.functional.mse_loss(adapter.tokens(embeddings[i]), wanted[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return float(loss.detach() / (wanted - wanted.mean(0)).pow(2).mean())


def read_adapter(path: Path, unet: nn.Module) -> Adapter:
    """An adapter's file, for a UNet of the same cross-attentions."""
    adapter = Adapter([site.site.width for site in enumerate_sites(unet)])
    state = {k: v.float() for k, v in load_file(path).items()}
    loaded = {k.removeprefix("image_proj."): v for k, v in state.items() if k.startswith("image_proj.")}
    for i in range(len(adapter.to_k)):
        loaded |= {f"to_{x}.{i}.weight": state[f"ip_adapter.{2 * i + 1}.to_{x}_ip.weight"] for x in "kv"}
    adapter.load_state_dict(loaded)
    return adapter


def load_adapter(place: Place, unet: nn.Module) -> Adapter:
    """The trained adapter, frozen."""
    return read_adapter(place.adapter, unet).requires_grad_(False).to(place.device)


def first_adapter(place: Place, model: TextToLatent, embeddings: Tensor, pictures: list[Picture]) -> Adapter:
    """What training begins with: the shipped one (warm.py) where it has this UNet's shape, else the text's own."""
    torch.manual_seed(0)
    shipped = place.cache / "adapter_first.safetensors"
    if shipped.exists():
        try:
            return read_adapter(shipped, model.unet).to(place.device)
        except (KeyError, RuntimeError):
            print("the shipped adapter is of another shape; begun anew", flush=True)
    adapter = Adapter([site.site.width for site in enumerate_sites(model.unet)])
    start_from_text(adapter, model.unet)
    adapter = adapter.to(place.device)
    wanted = words_of(model, WordTokenizer(place.clip), [p.identity for p in pictures])
    print(f"error left of the words: {start_from_words(adapter, embeddings, wanted):.4f}", flush=True)
    return adapter


def train(place: Place, plan: Plan, budget: Budget = UNLIMITED) -> bool:
    latents, embeddings, truths = corpus(place)
    pictures, weights = [p for p, _ in truths], head_weights(truths, place.size, place.latent).to(place.device)
    ids, empty = caption_ids(place, pictures, 22, shot_chance=0.1, looks_chance=0.15), empty_ids(place).to(torch.int16)
    grids = face_grids(truths, place.size).to(place.device)
    model, noise = load_base(place), Noise(place)
    face, cosine = latent_face(place, model, noise)
    adapter = first_adapter(place, model, embeddings, pictures)
    box: dict[str, Tensor] = {}
    attach(model.unet, adapter, box)
    run = Run(place, "adapter", adapter, plan)

    def make(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return pick_captions(rng, len(latents), plan.batch, ids.shape[1]), rng.random(plan.batch) < DROPPED

    def loss_of(batch: tuple[np.ndarray, np.ndarray], generator: torch.Generator) -> Tensor:
        i, k, is_empty = torch.from_numpy(batch[0]).to(place.device).T
        is_dropped = torch.from_numpy(batch[1]).to(place.device)[:, None]
        with place.autocast():
            box["tokens"] = adapter.tokens(torch.where(is_dropped, 0.0, embeddings[i]))
        captions = torch.where(is_empty[:, None] > 0, empty, ids[i, k])
        guess = noise.guess(model, latents[i], captions, generator)
        is_face = (guess.t < READABLE) & ~is_dropped[:, 0]
        cosines = (face(aligned(noise.denoised(guess), grids[i])) * embeddings[i]).sum(1)
        return noise.loss(guess, weights[i]) + LIKENESS * ((1 - cosines) * is_face).mean()

    if not run.train(loss_of, make, budget):
        return False
    run.use_ema()
    place.adapter.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().half().cpu().contiguous() for k, v in adapter.state().items()}, place.adapter)
    figures = {"steps": run.steps, "batch": plan.batch, "pictures": len(pictures), "empty_captions": EMPTY}
    place.write_card("adapter", {**figures, "close_ups": CLOSE_UPS, "tokens": TOKENS, "latent_face": round(cosine, 4)})
    return True


if __name__ == "__main__":
    single_run(__doc__, PLANS, train)
