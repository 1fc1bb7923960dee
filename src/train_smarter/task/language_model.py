"""The next token of a sequence."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from train_smarter.errors import UserError
from train_smarter.task.base import Columns, Task, check_shape, entropy
from train_smarter.task.samples.language_model import LanguageSamples


class LanguageModel(Task):
    """Outputs are logits (B, V, T) of the token that follows each of T tokens; targets are those tokens (B, T).

    Args:
        vocab_size: V.
        ignore_index: a token that counts neither in the loss nor in the metrics: padding.
        sample_length: tokens that `predict` adds to a prompt.
        temperature: of these samples; above 1 flatter, below 1 surer; 0: always the most probable token.
    """

    METRICS: ClassVar[Mapping[str, str]] = {"perplexity": "min", "accuracy": "max"}

    def __init__(
        self,
        *,
        vocab_size: int,
        ignore_index: int = -100,
        sample_length: int = 100,
        temperature: float = 0.8,
        **task: Any,
    ) -> None:
        super().__init__(**task)
        if sample_length < 1 or temperature < 0:
            raise UserError(
                f"task.sample_length={sample_length} must be at least 1, task.temperature={temperature} at least 0"
            )
        self.vocab_size = self.num_outputs = vocab_size
        self.ignore_index, self.sample_length, self.temperature = ignore_index, sample_length, temperature

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        total = F.cross_entropy(outputs, targets.long(), ignore_index=self.ignore_index, reduction="sum")
        weight = self.weight(targets)
        return total / (weight if isinstance(weight, int) else weight.clamp(min=1))  # 1: a batch of padding alone

    def weight(self, targets: Tensor) -> int | Tensor:
        return targets.numel() if self.ignore_index < 0 else (targets != self.ignore_index).sum()

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"next": outputs[:, :, -1].argmax(1), "probabilities": outputs[:, :, -1].softmax(1)}  # (B,), (B, V)

    def predict_input(self, network: Any, inputs: Tensor) -> dict[str, Tensor]:
        """Continue prompts (B, T) by `sample_length` tokens; the same ones each time."""
        generator = torch.Generator(inputs.device).manual_seed(0)
        tokens = self.generate(network, inputs, self.sample_length, temperature=self.temperature, generator=generator)
        return {"continuation": tokens[:, inputs.shape[1] :]}

    def columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        """The most probable next token and its probability, or the continuation of a prompt."""
        known = names if len(names) == self.vocab_size else [str(token) for token in range(self.vocab_size)]
        if "continuation" in prediction:
            between = "" if all(len(name) == 1 for name in names) and names is known else " "
            rows = prediction["continuation"].tolist()
            return {"continuation": [between.join(known[token] for token in row) for row in rows]}
        shown = [known[token] for token in prediction["next"].tolist()]
        return {"next": shown, "probability": prediction["probabilities"].max(1).values.tolist()}

    def decisions(self, prediction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"next token": prediction["next"]}

    def true_columns(self, targets: Tensor, names: Sequence[str]) -> Columns:
        tokens = targets[:, -1].tolist()
        known = len(names) == self.vocab_size
        return {"true": [names[token] if known and token != self.ignore_index else token for token in tokens]}

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        known = targets != self.ignore_index
        loss = F.cross_entropy(outputs.float(), targets.long(), ignore_index=self.ignore_index, reduction="sum")
        hits = ((outputs.argmax(1) == targets) & known).sum()
        return loss[None], hits[None], known.sum()[None]

    def make_metrics(self) -> Metric:
        return LanguageMetrics(self.metrics)

    def make_samples(self, count: int) -> LanguageSamples:
        return LanguageSamples(self, count)

    def check(self, targets: Any, split: str) -> None:
        fits = isinstance(targets, Tensor) and targets.ndim == 2 and not targets.is_floating_point()
        check_shape(fits, split, "tokens, integers (N, T)", targets)
        known = targets[targets != self.ignore_index]
        if len(known) and not (int(known.min()) >= 0 and int(known.max()) < self.vocab_size):
            raise UserError(f"a token of {split} is {int(known.max())}, but task.vocab_size={self.vocab_size}")

    def chance_loss(self, targets: Tensor) -> float:
        """The entropy of the tokens."""
        return entropy(targets[targets != self.ignore_index].long().flatten().bincount())

    @staticmethod
    def generate(
        network: Any, prompt: Tensor, length: int, *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Sample tokens one by one.

        Args:
            network: tokens (B, T) -> logits (B, V, T).
            prompt: (B, T) tokens, at least one.
            length: how many tokens to add.
            temperature: above 1 flatter, below 1 surer; 0: always the most probable token.

        Returns:
            (B, T + length) tokens.
        """
        tokens = prompt
        for _ in range(length):
            logits = network(tokens)[:, :, -1]  # (B, V)
            if temperature == 0:
                following = logits.argmax(1, keepdim=True)
            else:
                following = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)
            tokens = torch.cat([tokens, following], 1)
        return tokens


class LanguageMetrics(Metric):
    """Perplexity and accuracy of the next token.

    Args:
        names: which of perplexity and accuracy.
    """

    full_state_update = False
    loss: Tensor
    hits: Tensor
    count: Tensor

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.add_state("loss", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("hits", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, loss: Tensor, hits: Tensor, count: Tensor) -> None:
        """loss: summed over tokens; hits: right tokens; count: all tokens; (N,) of N batches each."""
        self.loss += loss.sum()
        self.hits += hits.sum()
        self.count += count.sum()

    def compute(self) -> dict[str, float]:
        count = self.count.clamp(min=1)
        scores = {"perplexity": float((self.loss / count).exp()), "accuracy": float(self.hits / count)}
        return {name: scores[name] for name in self.names}
