"""Placeholder: a mean of word embeddings. Replace its layers with your own."""

from typing import Any

from torch import Tensor, nn

from train_smarter import Model


class Placeholder(Model):
    """Word embeddings, their mean over the text, a hidden layer with ReLU, a linear layer.

    Tokens (B, T), int64, 0 = padding -> logits (B, K), or (B, 1) for two classes.

    Args:
        vocab_size: rows of the embedding, padding included.
        width: features of a word and of the hidden layer.
    """

    def __init__(self, *, vocab_size: int, width: int = 32, **model: Any) -> None:
        super().__init__(**model)
        # Your own layers go here; their arguments are keys in the YAML file. Loss and metrics come from Model.
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=0)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.num_outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        lengths = (tokens != 0).sum(1, keepdim=True).clamp(min=1)  # (B, 1)
        mean = self.embedding(tokens).sum(1) / lengths  # (B, width); padding is a row of zeros
        logits: Tensor = self.head(mean)
        return logits
