"""One class an example."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from train_smarter.errors import UserError
from train_smarter.task.base import (
    Columns,
    Task,
    average_binary_logits,
    average_logits,
    balanced_factors,
    check_shape,
    class_factors,
    entropy,
)
from train_smarter.task.confusion import Confusion
from train_smarter.task.samples.classification import ClassificationSamples


class Classification(Task):
    """Outputs are logits, (B, K), or (B, 1) for K = 2; targets are classes (B,), int64, or their shares (B, K), floats.

    Args:
        num_classes: K; two classes have one logit and binary cross-entropy, more have K logits and cross-entropy.
        class_weights: K factors on the loss of each true class; "balanced": N / (K n_k) of the N training examples, n_k
            of which are of class k.
        label_smoothing: share of the target spread evenly over all classes, 0 to 1.
    """

    METRICS: ClassVar[Mapping[str, str]] = {"accuracy": "max", "precision": "max", "recall": "max", "f1": "max"}
    MIXES: ClassVar[bool] = True
    class_weights: Tensor | None

    def __init__(
        self,
        *,
        num_classes: int,
        class_weights: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
        **task: Any,
    ) -> None:
        super().__init__(**task)
        self.num_classes, self.num_outputs = num_classes, 1 if num_classes == 2 else num_classes
        self.label_smoothing = label_smoothing
        self.balanced = class_weights == "balanced"
        factors = class_factors(class_weights, num_classes)
        self.register_buffer("class_weights", factors, persistent=self.balanced)  # others are in the config

    def fit(self, targets: Iterable[Tensor]) -> None:
        if self.balanced and self.class_weights is not None:
            counts = torch.stack([labels.cpu().bincount(minlength=self.num_classes) for labels in targets]).sum(0)
            self.class_weights.copy_(balanced_factors(counts))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.num_outputs == 1:
            loss = self._binary_loss(outputs, targets)
        elif self.class_weights is None:
            return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)
        else:
            smoothing = self.label_smoothing
            loss = F.cross_entropy(outputs, targets, self.class_weights, label_smoothing=smoothing, reduction="sum")
        weight = self.weight(targets)
        return loss / (weight if isinstance(weight, int) else weight.clamp(min=1e-12))  # weight 0: 0, no NaN

    def _binary_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum over the batch."""
        weight = None if self.class_weights is None else self._weights(targets)
        if targets.is_floating_point():
            targets = targets[:, 1]
            if self.class_weights is not None and weight is not None:  # the part of the weight that class 1 has
                targets = targets * self.class_weights[1] / weight.clamp(min=1e-12)
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2  # (B,)
        return F.binary_cross_entropy_with_logits(outputs[:, 0], smooth.to(outputs.dtype), weight, reduction="sum")

    def weight(self, targets: Tensor) -> int | Tensor:
        return len(targets) if self.class_weights is None else self._weights(targets).sum()

    def _weights(self, targets: Tensor) -> Tensor:
        """The class weight of each example (B,)."""
        assert self.class_weights is not None
        if targets.is_floating_point():
            return (targets * self.class_weights).sum(1)
        return self.class_weights[targets]

    def predict_classes(self, outputs: Tensor) -> Tensor:
        """(B, K) or (B, 1) -> the most probable class (B,), int64."""
        return outputs.argmax(1) if self.num_outputs != 1 else (outputs[:, 0] > 0).long()

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(B, K) or (B, 1) -> (B, K), each row summing to 1."""
        if self.num_outputs != 1:
            return outputs.softmax(1)
        positive = outputs.sigmoid()  # (B, 1)
        return torch.cat([1 - positive, positive], 1)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"probabilities": self.probabilities(outputs)}

    def average_mirrored(self, outputs: Tensor, mirrored: Tensor) -> Tensor:
        return (average_logits if self.num_outputs != 1 else average_binary_logits)(outputs, mirrored)

    def columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        """The most probable class, its probability, and the probability of each class."""
        rows = prediction["probabilities"]  # (B, K)
        # Of two classes with one half each, the first: as `predict_classes` has it.
        probability, best = rows.max(1)
        columns: Columns = {"prediction": [names[k] for k in best.tolist()], "probability": probability.tolist()}
        for name, column in zip(names, rows.T, strict=True):
            columns[f"p({name})" if name in columns else name] = column.tolist()
        return columns

    def json_columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        """The same, the probabilities of the classes as one object."""
        first = dict(list(self.columns(prediction, names).items())[:2])
        rows = prediction["probabilities"].tolist()
        return first | {"probabilities": [dict(zip(names, row, strict=True)) for row in rows]}

    def true_columns(self, targets: Tensor, names: Sequence[str]) -> Columns:
        if targets.is_floating_point():
            return {"label": [_spell_shares(row, names) for row in targets.tolist()]}
        return {"label": [names[k] for k in targets.tolist()]}

    def decisions(self, prediction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"class": prediction["probabilities"].argmax(1)}

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Of a mixed example, the class of the larger share is the true one."""
        return self.predict_classes(outputs), targets.argmax(1) if targets.is_floating_point() else targets

    def make_metrics(self) -> Confusion:
        return Confusion(self.num_classes, self.metrics)

    def check(self, targets: Any, split: str) -> None:
        fits = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
        check_shape(fits, split, "one class an example, int64 (N,)", targets)
        if len(targets) and not (int(targets.min()) >= 0 and int(targets.max()) < self.num_classes):
            raise UserError(
                f"a class of {split} is not in 0 to {self.num_classes - 1}: {sorted(set(targets.tolist()))[-1]}"
            )

    def chance_loss(self, targets: Tensor) -> float:
        """The entropy of the classes, as far as they are weighted and smoothed."""
        counts = targets.bincount(minlength=self.num_classes).cpu().double()
        weights = torch.ones_like(counts) if self.class_weights is None else self.class_weights.cpu().double()
        true = weights * counts  # (K,)
        # Binary cross-entropy weighs both classes of a smoothed target alike, cross-entropy each by its own factor.
        other = true.sum() if self.num_outputs == 1 else weights * counts.sum()
        mass = (1 - self.label_smoothing) * true + self.label_smoothing / self.num_classes * other
        return entropy(mass) * float(mass.sum() / true.sum())

    def make_samples(self, count: int) -> ClassificationSamples:
        return ClassificationSamples(self, count)

    def why_unusable(self, outputs: Any, batch: Any) -> str:
        """Why the outputs of a test step are not the logits of this task; "" where they are.

        For callbacks that use predictions: a subclass of Model may have steps of its own.
        """
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(labels := batch[1], Tensor):
            return "a batch is not (inputs, labels)"
        if labels.ndim != 1 or labels.is_floating_point():
            return f"labels are {labels.dtype} of shape {tuple(labels.shape)}, not one class an example"
        shape = (len(labels), self.num_outputs)
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or tuple(outputs.shape) != shape:
            given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            return f"outputs are {given}, not logits of shape {shape}"
        return ""


def _spell_shares(shares: Sequence[float], names: Sequence[str]) -> str:
    """The classes of a mixed example, for example "cat 70% dog 30%"."""
    parts = sorted(((share, name) for share, name in zip(shares, names, strict=True) if share), reverse=True)
    return " ".join(f"{name} {share:.0%}" for share, name in parts) if len(parts) > 1 else parts[0][1]
