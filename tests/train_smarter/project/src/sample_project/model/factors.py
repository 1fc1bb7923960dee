"""Biases and factors of users and items."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from train_smarter import Model


class Factors(Model):
    """Scores of pairs (B, 1), or of all items (B, I) without "item"; index -1 has a bias and factors of 0.

    Args:
        history: factors of a user are the mean of those of its history.
    """

    def __init__(
        self, *, num_users: int, num_items: int, dim: int = 4, l2: float = 0.0, history: bool = False, **model: Any
    ) -> None:
        super().__init__(**model)
        self.l2, self.history = l2, history
        self.users = nn.Embedding(num_users + 1, dim, padding_idx=0)
        self.items = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.bias = nn.Parameter(torch.zeros(num_items))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        if self.history:
            known = (inputs["history"] >= 0).sum(1, keepdim=True).clamp(min=1)
            users = self.items(inputs["history"] + 1).sum(1) / known  # (B, D)
        else:
            users = self.users(inputs["user"] + 1)
        scores: Tensor = users @ self.items.weight[1:].T + self.bias  # (B, I)
        if "item" not in inputs:
            return scores
        item = inputs["item"].view(scores.shape[0], -1)
        return scores.gather(1, item.clamp(min=0)).masked_fill(item < 0, 0.0)
