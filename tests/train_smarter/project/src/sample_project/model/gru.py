"""A recurrent network that predicts the next token."""

from typing import Any

from torch import Tensor, nn

from train_smarter import Model


class GRU(Model):
    """Embedding, GRU, a dense layer at each token. Tokens (B, T) -> logits (B, V, T)."""

    def __init__(self, *, vocab_size: int, hidden: int = 32, **model: Any) -> None:
        super().__init__(**model)
        self.embedding = nn.Embedding(vocab_size, hidden)
        self.layer = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, self.num_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.layer(self.embedding(tokens))  # (B, T, hidden)
        logits: Tensor = self.head(states).movedim(2, 1)
        return logits
