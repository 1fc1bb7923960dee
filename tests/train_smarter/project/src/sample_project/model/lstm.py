"""An LSTM that reads a text."""

from typing import Any

import torch
from torch import Tensor, nn

from train_smarter import Model


class LSTM(Model):
    """Embedding, LSTM, the state after the last word, a dense layer. Tokens (B, T), 0 = padding -> logits (B, K)."""

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_dim: int = 128,
        hidden: int = 128,
        bidirectional: bool = False,
        dropout: float = 0.2,
        fc_dim: int = 64,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(nn.LSTM(embedding_dim, hidden) for _ in range(2 if bidirectional else 1))
        self.head = nn.Sequential(
            nn.Linear(hidden * len(self.layers), fc_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(fc_dim, self.num_outputs),  # (B, K)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens, lengths = left_align(tokens)  # the padding behind a text changes nothing before it
        features = self.dropout(self.embedding(tokens.T))  # (T, B, D)
        last, texts = lengths - 1, torch.arange(lengths.shape[0], device=tokens.device)
        states = [self.layers[0](features)[0][last, texts]]
        if len(self.layers) == 2:
            position = torch.arange(features.shape[0], device=tokens.device)[:, None]  # (T, 1)
            mirror = torch.where(position < lengths, last - position, position)[:, :, None]  # (T, B, 1)
            states.append(self.layers[1](features.gather(0, mirror.expand_as(features)))[0][last, texts])
        logits: Tensor = self.head(torch.cat(states, 1))
        return logits


def left_align(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (B, T) -> the words in front, in their order (B, T), and how many (B,), at least 1."""
    so_far = (tokens != 0).cumsum(1)  # (B, T); padding adds its 0 to the place of the word before it
    moved = torch.zeros_like(tokens).scatter_add_(1, (so_far - 1).clamp_(min=0), tokens)
    return moved, so_far[:, -1].clamp(min=1)
