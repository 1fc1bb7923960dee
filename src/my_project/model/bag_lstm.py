"""Two readers of a text whose logits add up: an LSTM, and a bag of words and word pairs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my_project.model.lstm import left_align
from train_smarter import Examples, Model, UserError

# Two primes: neighbours' ids are spread over the rows of the pairs, whatever their number.
FIRST_HASH, SECOND_HASH = 1_000_003, 7_919
BUCKET_WEIGHT = 0.04  # of a word's evidence, before training
COUNTED_TOKENS = 500  # texts at a time


class BagLSTM(Model):
    """An LSTM over phrases in both directions, beside a bag of words and pairs of neighbours.

    Tokens (B, T), int64, 0 = padding -> logits (B, K), or (B, 1) for two classes. Padding, wherever it stands, does
    not reach the result; a text of nothing but padding is read as zeros.

    The bag adds up the naive Bayes evidence of the words and pairs that a text has, each by a weight that is trained;
    what they speak for is counted in the training split before training begins. The bag knows most training texts by
    heart within an epoch and would leave the LSTM little to learn, so the two are trained as an ensemble is: of each
    batch, a random half reaches one reader, the rest the other.

    Sources: Wang and Manning, Baselines and Bigrams, ACL 2012 (evidence; 0.912 on IMDB by a bag alone); Johnson and
    Zhang, Supervised and Semi-Supervised Text Categorization using LSTM for Region Embeddings, ICML 2016 (pooling).

    Args:
        vocab_size: words with rows of their own in both readers, padding included.
        stride: neighbouring words whose embeddings are summed into one step of the LSTM.
        embedding_dim: features of a word, for the LSTM.
        hidden: features of the LSTM, in each direction; max and mean over its steps make 4 * hidden.
        hash_buckets: rows that share the bag's pairs among them; 0: it holds words alone.
        word_dropout: share of the words that the LSTM misses in training.
        dropout: share of the LSTM's features dropped in training before its logits.
        lstm_weight: factor on the LSTM's logits where both are added: it is too sure of itself.
    """

    log_count_ratio: Tensor

    def __init__(
        self,
        *,
        vocab_size: int,
        stride: int = 8,
        embedding_dim: int = 64,
        hidden: int = 64,
        hash_buckets: int = 1_000_000,
        word_dropout: float = 0.5,
        dropout: float = 0.5,
        lstm_weight: float = 0.3,
        **model: Any,
    ) -> None:
        if not 0 <= word_dropout < 1:
            raise UserError(f"model.word_dropout={word_dropout} is a share: from 0 to below 1")
        if stride < 1 or hash_buckets < 0:
            raise UserError(f"model.stride={stride} must be at least 1, model.hash_buckets={hash_buckets} at least 0")
        super().__init__(**model)
        self.vocab_size, self.hash_buckets, self.stride = vocab_size, hash_buckets, stride
        self.word_dropout, self.lstm_weight = word_dropout, lstm_weight
        self.dropout = nn.Dropout(dropout)
        self.bag = nn.Embedding(
            vocab_size + hash_buckets, self.num_outputs, padding_idx=0
        )  # a weight of each word and pair
        nn.init.constant_(self.bag.weight, BUCKET_WEIGHT)
        self.bias = nn.Parameter(torch.zeros(self.num_outputs))
        self.register_buffer("log_count_ratio", torch.zeros_like(self.bag.weight))
        self.phrases = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        with torch.no_grad():
            self.phrases.weight *= 0.1  # a phrase is the sum of several
        self.forwards, self.backwards = nn.LSTM(embedding_dim, hidden), nn.LSTM(embedding_dim, hidden)
        self.head = nn.Linear(4 * hidden, self.num_outputs)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            if data is None:
                raise UserError("BagLSTM counts words before it trains: call trainer.fit(model, datamodule=...)")
            self.fit_naive_bayes(data.examples["train"])
        super().setup(stage)  # may start from other weights, and their evidence

    @torch.no_grad()
    def fit_naive_bayes(self, examples: Examples) -> None:
        """Sets what each word and pair speaks for: the log of how much more likely it is in a class than elsewhere.

        examples: tokens (N, T) of any integer type, 0 = padding on the right, and labels (N,).
        """
        counts = torch.ones(
            max(2, self.num_outputs), len(self.log_count_ratio)
        )  # of texts that have it; 1: none is impossible
        for tokens, labels in zip(
            examples.inputs.split(COUNTED_TOKENS), examples.targets.split(COUNTED_TOKENS), strict=True
        ):
            held = self._ngram_ids(tokens.long())
            for label, count in enumerate(counts):
                count += held[labels == label].flatten().bincount(minlength=len(count))
        counts[:, 0] = 1  # padding
        elsewhere = counts.sum(0) - counts
        ratio = (counts / counts.sum(1, keepdim=True)).log() - (elsewhere / elsewhere.sum(1, keepdim=True)).log()
        ratio[:, 0] = 0
        self.log_count_ratio.copy_(ratio[-self.num_outputs :].T)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens, lengths = left_align(tokens)
        weights = self.bag.weight * self.log_count_ratio
        bag = embedding_sum(self._ngram_ids(tokens), weights) + self.bias
        lstm: Tensor = self.head(self.dropout(self._encode(tokens, lengths)))
        if self.training:
            return torch.where(torch.rand(len(tokens), 1, device=tokens.device) < 0.5, bag, lstm)
        return bag + self.lstm_weight * lstm

    def _ngram_ids(self, tokens: Tensor) -> Tensor:
        """Words (B, T) in front -> the bag's rows of their words and pairs, each once (B, T or 2 T), 0 = none."""
        held = tokens
        if self.hash_buckets:
            after = F.pad(tokens[:, 1:], (0, 1))  # the next word of each
            pairs = self.vocab_size + (tokens * FIRST_HASH + after * SECOND_HASH) % self.hash_buckets
            held = torch.cat([tokens, pairs.masked_fill(after == 0, 0)], 1)
        held = held.sort(1).values
        return held.masked_fill(held == F.pad(held[:, :-1], (1, 0), value=-1), 0)

    def _encode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Words (B, T) in front -> maximum and mean of the LSTM's features over its steps (B, 4 * hidden)."""
        tokens = F.pad(tokens, (0, -tokens.shape[1] % self.stride))
        if self.training and self.word_dropout:
            tokens = tokens.masked_fill(torch.rand(tokens.shape, device=tokens.device) < self.word_dropout, 0)
        phrases = embedding_sum(tokens.reshape(-1, self.stride), self.phrases.weight)
        if self.training:
            phrases = phrases / (1 - self.word_dropout)
        phrases = phrases.view(tokens.shape[0], -1, phrases.shape[1]).transpose(0, 1)  # (S, B, D) with S steps
        steps = (lengths + self.stride - 1) // self.stride  # (B,)
        position = torch.arange(len(phrases), device=tokens.device)[:, None]  # (S, 1)
        mirror = torch.where(position < steps, steps - 1 - position, position)[:, :, None]  # (S, B, 1)
        ahead = self.forwards(phrases)[0]
        back = self.backwards(phrases.gather(0, mirror.expand_as(phrases)))[0]  # last phrase first
        features = torch.cat([ahead, back], 2)  # (S, B, 2 * hidden): pooling asks for no order
        beyond = (position >= steps)[:, :, None]  # (S, B, 1)
        mean = features.masked_fill(beyond, 0).sum(0) / steps[:, None]
        return torch.cat([features.masked_fill(beyond, -torch.inf).amax(0), mean], 1)


def embedding_sum(ids: Tensor, table: Tensor) -> Tensor:
    """Ids (N, T), 0 = none, of rows of a table (rows, D) -> the sum of each one's rows (N, D)."""
    if torch.compiler.is_exporting():  # else a loop over N in ONNX, which takes fifty times as long
        return F.embedding(ids, table).masked_fill((ids == 0)[:, :, None], 0).sum(1)
    # One bag each: the rows themselves, (N, T, D), are never written down, which saves most of the time.
    return F.embedding_bag(ids, table, mode="sum", padding_idx=0)
