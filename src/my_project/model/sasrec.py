"""SASRec: a transformer reads the items of a user in order, and predicts the next one."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my_project.model.popular import require_history
from train_smarter import Model, UserError


class SASRec(Model):
    """Scores {"user": (B,), "history": (B, L)} -> (B, I) of the item that follows the history; the user is not used.

    In training, (B, T, I): the score at place t is that of item -T + t of the history, from those before it. Histories
    are in time order and padded with -1 on the left.

    Source: Kang and McAuley, Self-attentive sequential recommendation, 2018, with the loss over all items of Klenitskiy
    and Vasilev, Turning dross into gold loss, 2023.

    Args:
        num_items: I.
        max_length: items of a history that are read, the latest ones.
        dim: D, features of an item; heads: of the attention, a divisor of `dim`.
        layers: of the transformer.
        dropout: of embeddings, attention and layers.
    """

    def __init__(
        self,
        *,
        num_items: int,
        max_length: int = 50,
        dim: int = 64,
        heads: int = 2,
        layers: int = 2,
        dropout: float = 0.3,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        if dim % heads:
            raise UserError(f"model.heads={heads}: give a divisor of model.dim={dim}")
        self.max_length = max_length
        self.items = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.places = nn.Embedding(max_length, dim)  # counted from the latest item
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        with torch.no_grad():
            self.items.weight[0] = 0
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        history = require_history(self, inputs)
        if self.training:  # every item but the first is to be predicted
            return self._score(self._read(history[:, -self.max_length - 1 : -1]))
        # Padded first, so that an exported network takes histories of any length: what is read has one length.
        padded = F.pad(history, (self.max_length, 0), value=-1)[:, -self.max_length :]
        return self._score(self._read(padded)[:, -1])

    def _read(self, history: Tensor) -> Tensor:
        """(B, T) -> features (B, T, D) of what follows each item."""
        length = history.shape[1]
        known = history >= 0
        places = torch.arange(length - 1, -1, -1, device=history.device)
        features = self.dropout(self.items(history + 1) * self.items.embedding_dim**0.5 + self.places(places))
        # An item sees itself and the known items before it; a padded place sees itself, since it has to see something.
        itself = torch.eye(length, dtype=torch.bool, device=history.device)
        before = torch.ones(length, length, dtype=torch.bool, device=history.device).tril()
        visible = (before & known[:, None, :]) | itself  # (B, T, T)
        for block in self.blocks:
            features = block(features, visible[:, None])
        normed: Tensor = self.norm(features)
        return normed

    def _score(self, features: Tensor) -> Tensor:
        return features @ self.items.weight[1:].T


class Block(nn.Module):
    """Self-attention and two dense layers, each with a residual connection: (B, T, D) -> (B, T, D)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, 3 * dim)
        self.mixing = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim)
        )

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        """visible: (B, 1, T, T) bool, which places each place sees."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)
            for part in self.projection(self.norm(features)).chunk(3, 2)
        )
        seen = F.scaled_dot_product_attention(query, key, value, visible, self.rate if self.training else 0.0)
        features = features + self.dropout(self.mixing(seen.transpose(1, 2).flatten(2)))
        result: Tensor = features + self.dropout(self.dense(features))
        return result
