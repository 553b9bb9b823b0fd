"""The text model of an SD 1.x checkpoint (`cond_stage_model.transformer.*` keys): CLIP's, with any release's names.

Training runs on it, so that the weights do not depend on which release of transformers a machine has; hosts load
the same weights into transformers' own class (tested to agree).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Feed(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class Layer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int):
        super().__init__()
        self.self_attn, self.layer_norm1 = SelfAttention(width, heads), nn.LayerNorm(width)
        self.mlp, self.layer_norm2 = Feed(width, inner), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    def __init__(self, tokens: int, width: int, length: int):
        super().__init__()
        self.token_embedding, self.position_embedding = nn.Embedding(tokens, width), nn.Embedding(length, width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]


class Encoder(nn.Module):
    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class TextTransformer(nn.Module):
    def __init__(self, tokens: int, width: int, layers: int, heads: int, length: int):
        super().__init__()
        self.embeddings = Embeddings(tokens, width, length)
        self.encoder = Encoder([Layer(width, 4 * width, heads) for _ in range(layers)])
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embeddings(ids)
        for layer in self.encoder.layers:
            x = layer(x)
        return self.final_layer_norm(x)


class CLIPText(nn.Module):
    """ids (B, 77) -> the last layer's output after the final norm (B, 77, width)."""

    def __init__(self, tokens: int, width: int = 128, layers: int = 2, heads: int = 4, length: int = 77):
        super().__init__()
        self.text_model = TextTransformer(tokens, width, layers, heads, length)

    def forward(self, ids: Tensor) -> Tensor:
        return self.text_model(ids)
