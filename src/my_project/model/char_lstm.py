"""An LSTM that predicts the next token after each token."""

from typing import Any

from torch import Tensor, nn

from train_smarter import Model


class CharLSTM(Model):
    """Embedding, LSTM, dropout, dense to the logits. Tokens (B, T), integers -> logits (B, V, T) of the next tokens.

    Args:
        vocab_size: V, rows of the embedding.
        embedding_dim: features of a token.
        hidden: features of the LSTM.
        num_layers: LSTMs on top of each other.
        dropout: share of the features dropped in training, between LSTMs and before the last layer.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embedding_dim: int = 64,
        hidden: int = 128,
        num_layers: int = 1,
        dropout: float = 0.0,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(embedding_dim, hidden, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, self.num_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        features, _ = self.lstm(self.embedding(tokens))  # (B, T, D)
        logits: Tensor = self.head(self.dropout(features)).mT  # (B, V, T)
        return logits
