"""The article's LSTM: a text's class from its word ids."""

from typing import Any

import torch
from torch import Tensor, nn

from train_smarter import Model, UserError

POOLINGS = ("last", "max", "mean")


class LSTM(Model):
    """Embedding, dropout, LSTM, pooling over time, dense 64 with ReLU, dropout, dense to the logits.

    Tokens (B, T), int64, 0 = padding -> logits (B, K), or (B, 1) for two classes. Padding, wherever it stands, does
    not reach the result; a text of nothing but padding is read as one zero vector.

    Args:
        vocab_size: rows of the embedding, padding included.
        embedding_dim: features of a word.
        hidden: features of the LSTM, in each direction.
        num_layers: LSTMs on top of each other, each with dropout on its input.
        bidirectional: reads the text backwards too, and joins both.
        pooling: "last" takes the state after the last word, "max" and "mean" run over all words.
        dropout: share of features dropped in training, at each LSTM's input and before the last layer.
        fc_dim: features of the layer between LSTM and logits.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_dim: int = 128,
        hidden: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.2,
        fc_dim: int = 64,
        **model: Any,
    ) -> None:
        if pooling not in POOLINGS:
            raise UserError(f"model.pooling={pooling} is none of {', '.join(POOLINGS)}")
        if num_layers < 1:
            raise UserError(f"model.num_layers={num_layers}, but an LSTM has at least 1")
        super().__init__(**model)
        self.hidden, self.pooling, self.directions = hidden, pooling, 2 if bidirectional else 1
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        # One nn.LSTM per layer and direction: both directions then run over plain tensors, which on a CPU is five
        # times as fast as packed sequences and needs no copy of the lengths from a GPU.
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.LSTM(features, hidden) for _ in range(self.directions))
            for features in [embedding_dim, *[hidden * self.directions] * (num_layers - 1)]
        )
        self.head = nn.Sequential(
            nn.Linear(hidden * self.directions, fc_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(fc_dim, self.num_outputs),  # (B, K)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens, lengths = left_align(tokens)  # what the LSTM makes of the padding behind is never looked at
        logits: Tensor = self.head(self._pool(self._encode(tokens.T, lengths), lengths))
        return logits

    def _encode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Tokens (T, B) -> every layer's reading of them, the last one's features (T, B, D)."""
        features: Tensor = self.embedding(tokens)  # (T, B, D)
        if self.directions == 2:
            position = torch.arange(tokens.shape[0], device=tokens.device)[:, None]  # (T, 1)
            mirror = torch.where(position < lengths, lengths - 1 - position, position)[:, :, None]  # (T, B, 1)
        for directions in self.layers:
            assert isinstance(directions, nn.ModuleList)
            features = self.dropout(features)
            read = directions[0](features)[0]
            if self.directions == 2:
                backwards = directions[1](features.gather(0, mirror.expand_as(features)))[0]
                read = torch.cat([read, backwards.gather(0, mirror.expand_as(backwards))], 2)
            features = read
        return features

    def _pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (T, B, D) of texts of these lengths (B,) -> (B, D)."""
        if self.pooling == "last":
            last = features[lengths - 1, torch.arange(lengths.shape[0], device=lengths.device)]
            if self.directions == 1:
                return last
            # Backwards, the last word is the first.
            return torch.cat([last[:, : self.hidden], features[0, :, self.hidden :]], 1)
        beyond = (torch.arange(features.shape[0], device=lengths.device)[:, None] >= lengths)[:, :, None]  # (T, B, 1)
        if self.pooling == "max":
            return features.masked_fill(beyond, -torch.inf).amax(0)
        return features.masked_fill(beyond, 0).sum(0) / lengths[:, None]


def left_align(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (B, T), 0 = padding -> the words in front, in their order (B, T), and how many (B,), at least 1."""
    so_far = (tokens != 0).cumsum(1)  # (B, T), words up to here; padding adds its 0 to a place that a word has
    moved = torch.zeros_like(tokens).scatter_add_(1, (so_far - 1).clamp_(min=0), tokens)
    return moved, so_far[:, -1].clamp(min=1)
