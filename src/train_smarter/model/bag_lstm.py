"""Two readers of a text whose logits add up: an LSTM, and a bag of words and word pairs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_smarter.error import UserError
from train_smarter.model.base import FACTORIES, Classifier

# Two primes: neighbours' ids are spread over the rows of the pairs, whatever their number.
FIRST, SECOND = 1_000_003, 7_919


class BagLSTM(Classifier):
    """An LSTM over phrases in both directions, beside a bag of words and pairs of neighbours; dense to the logits.

    Tokens (B, T), int64, 0 = padding -> logits (B, K), or (B, 1) for two classes. Padding, wherever it stands, does
    not reach the result; a text of nothing but padding is read as zeros.

    The bag learns fast and knows most texts by heart within a few epochs; what is left for the LSTM to learn beside it
    would be little. So the two are trained as an ensemble is: some examples reach one reader alone.

    Sources: Joulin et al., Bag of Tricks for Efficient Text Classification, EACL 2017 (pairs in hashed rows); Johnson
    and Zhang, Supervised and Semi-Supervised Text Categorization using LSTM for Region Embeddings, ICML 2016 (pooling).

    Args:
        vocab_size: rows of either reader's word embedding, padding included.
        phrase: neighbouring words whose embeddings are summed into one step of the LSTM.
        embedding_dim: features of a word, for the LSTM.
        hidden: features of the LSTM, in each direction; max and mean over its steps make 4 * hidden.
        bag_dim: features of a word and of a pair, in the bag.
        pairs: rows that hold the bag's pairs; 0: it holds words alone.
        word_dropout: share of the words that the LSTM misses in training.
        bag_dropout: share of the words, and of the pairs, that the bag misses in training.
        dropout: share of features dropped in training before the logits.
        alone: share of the training examples that reach the LSTM alone, and the bag alone; 0 to 0.5.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_classes: int,
        phrase: int = 8,
        embedding_dim: int = 64,
        hidden: int = 64,
        bag_dim: int = 32,
        pairs: int = 200_000,
        word_dropout: float = 0.3,
        bag_dropout: float = 0.5,
        dropout: float = 0.5,
        alone: float = 0.35,
        **classifier: Any,
    ) -> None:
        if not 0 <= alone <= 0.5:
            raise UserError(f"model.alone={alone} is a share for either reader: 0 to 0.5")
        if not (0 <= word_dropout < 1 and 0 <= bag_dropout < 1):
            raise UserError(f"model.word_dropout={word_dropout} and model.bag_dropout={bag_dropout}: from 0 to below 1")
        if phrase < 1 or pairs < 0 or pairs == 1:
            raise UserError(f"model.phrase={phrase} must be at least 1, model.pairs={pairs} 0 or at least 2")
        super().__init__(num_classes=num_classes, **classifier)
        self.save_hyperparameters(ignore=FACTORIES)
        self.phrase, self.alone = phrase, alone
        self.word_dropout, self.bag_dropout = word_dropout, bag_dropout
        self.dropout = nn.Dropout(dropout)
        self.phrases = _table(vocab_size, embedding_dim)
        self.words = _table(vocab_size, bag_dim)
        self.pairs = _table(pairs, bag_dim, std=0) if pairs else None  # a pair never met adds nothing
        self.forwards, self.backwards = nn.LSTM(embedding_dim, hidden), nn.LSTM(embedding_dim, hidden)
        self.bag_head = nn.Linear(bag_dim, self.outputs)
        self.lstm_head = nn.Linear(4 * hidden, self.outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0  # (B, T)
        tokens = tokens.gather(1, padding.argsort(stable=True, dim=1))  # words to the front, in their order
        lengths = (~padding).sum(1).clamp(min=1)  # (B,)
        bag: Tensor = self.bag_head(self.dropout(self._bag(tokens, lengths)))
        lstm: Tensor = self.lstm_head(self.dropout(self._read(tokens, lengths)))
        if self.training and self.alone:
            chance = torch.rand(len(tokens), 1, device=tokens.device)
            return bag * (chance > self.alone) + lstm * (chance < 1 - self.alone)
        return bag + lstm

    def _bag(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Words (B, T) in front -> the sum of all words and pairs over the square root of their number (B, D)."""
        total = self._sum(self.words, tokens, count=tokens.shape[1], missed=self.bag_dropout)
        if self.pairs is not None:
            after = F.pad(tokens[:, 1:], (0, 1))  # the next word of each
            place = (tokens * FIRST + after * SECOND) % (self.pairs.num_embeddings - 1) + 1
            place = place.masked_fill(after == 0, 0)
            total = total + self._sum(self.pairs, place, count=tokens.shape[1], missed=self.bag_dropout)
        return total / lengths[:, None].sqrt()

    def _read(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Words (B, T) in front -> maximum and mean of the LSTM's features over its steps (B, 4 * hidden)."""
        tokens = F.pad(tokens, (0, -tokens.shape[1] % self.phrase))
        phrases = self._sum(self.phrases, tokens, count=self.phrase, missed=self.word_dropout)
        phrases = phrases.view(len(tokens), -1, phrases.shape[1]).transpose(0, 1)  # (S, B, D) with S steps
        steps = (lengths + self.phrase - 1) // self.phrase  # (B,)
        position = torch.arange(len(phrases), device=tokens.device)[:, None]  # (S, 1)
        mirror = torch.where(position < steps, steps - 1 - position, position)[:, :, None]  # (S, B, 1)
        ahead = self.forwards(phrases)[0]
        back = self.backwards(phrases.gather(0, mirror.expand_as(phrases)))[0]  # last phrase first
        features = torch.cat([ahead, back], 2)  # (S, B, 2 * hidden): pooling asks for no order
        beyond = (position >= steps)[:, :, None]  # (S, B, 1)
        mean = features.masked_fill(beyond, 0).sum(0) / steps[:, None]
        return torch.cat([features.masked_fill(beyond, -torch.inf).amax(0), mean], 1)

    def _sum(self, table: nn.Embedding, ids: Tensor, *, count: int, missed: float) -> Tensor:
        """Ids (B, T) -> the sum of the rows of each `count` neighbours (B * T / count, D), a share missed in training.

        One bag a sum: the rows themselves, (B, T, D), are never written down, which saves most of the time.
        """
        if not self.training or missed == 0:
            return F.embedding_bag(ids.reshape(-1, count), table.weight, mode="sum", padding_idx=0)
        ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < missed, 0)
        return F.embedding_bag(ids.reshape(-1, count), table.weight, mode="sum", padding_idx=0) / (1 - missed)


def _table(rows: int, features: int, *, std: float = 0.1) -> nn.Embedding:
    """An embedding whose row 0 stands for nothing."""
    table = nn.Embedding(rows, features, padding_idx=0)
    with torch.no_grad():
        table.weight.mul_(std)
    return table
