"""Accuracy, precision, recall and F1 from one integer confusion matrix."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

Stack = tuple[Tensor, ...]
BUFFER_SIZE = 64  # steps that are counted together


def confusion_scores(confusion: Tensor) -> dict[str, float]:
    """Accuracy (micro); precision, recall, F1: macro over K > 2 classes, of the positive class for K = 2.

    confusion: (K, K) counts, row = true class, column = predicted. A class never predicted has precision 0, one that
    never occurs recall 0, and one that neither occurs nor is predicted is left out of the mean.
    """
    matrix = confusion.cpu().double()
    hits, true, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    precision = hits / predicted.clamp(min=1)
    recall = hits / true.clamp(min=1)
    f1 = 2 * hits / (true + predicted).clamp(min=1)
    kept = [1] if len(matrix) == 2 else torch.nonzero(true + predicted).flatten().tolist()
    macro = {name: values[kept].mean() for name, values in (("precision", precision), ("recall", recall), ("f1", f1))}
    return {"accuracy": float(hits.sum() / matrix.sum().clamp(min=1)), **{k: float(v) for k, v in macro.items()}}


class ConfusionMetric(Metric):
    """Counts predictions and adds losses up on the device; nothing is computed or synchronised before `result`.

    A step only leaves its tensors here (`append`): counted a few dozen steps at a time, they cost a small model's step
    next to nothing.
    """

    full_state_update = False
    confusion: Tensor
    loss: Tensor
    confusion_matrix: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.buffer: list[tuple[Tensor, Tensor, Tensor]] = []
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros(()), dist_reduce_fx="sum")

    def append(self, loss: Tensor, predicted: Tensor, labels: Tensor) -> None:
        """loss: mean over the batch, a scalar; predicted, labels: (B,) int64."""
        self.buffer.append((loss.detach() * len(labels), predicted, labels))
        if len(self.buffer) >= BUFFER_SIZE:
            self.flush()

    def buffered_state(self) -> dict[str, Any]:
        """Return the state on the CPU, for `load_buffered_state`. The buffer is not counted: sums stay bit for bit."""
        waiting = [tuple(part.cpu() for part in step) for step in self.buffer]
        return {"confusion": self.confusion.cpu(), "loss": self.loss.cpu(), "waiting": waiting}

    def load_buffered_state(self, kept: dict[str, Any]) -> None:
        """Goes on from what `buffered_state` returned."""
        self.confusion, self.loss = kept["confusion"].to(self.device), kept["loss"].to(self.device)
        self.buffer = [
            (loss.to(self.device), predicted.to(self.device), labels.to(self.device))
            for loss, predicted, labels in kept["waiting"]
        ]

    def flush(self) -> None:
        """Takes up what waits."""
        if self.buffer:
            losses, predicted, labels = zip(*self.buffer, strict=True)
            self.buffer = []
            self.update(losses, predicted, labels)

    def update(self, losses: Stack, predicted: Stack, labels: Stack) -> None:
        """Several batches at once; losses: each the sum over its batch, a scalar."""
        cells = torch.cat(labels) * self.num_classes + torch.cat(predicted)
        self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))
        self.loss += torch.stack(losses).sum()

    def scores(self) -> dict[str, float]:
        """`loss` (mean per example) and the `confusion_scores`, as plain numbers; over all processes."""
        self.flush()
        values: dict[str, float] = self.compute()
        return values

    def compute(self) -> dict[str, float]:
        """The same of what has been counted."""
        self.confusion_matrix = (
            self.confusion.cpu().clone()
        )  # (K, K), over all processes; kept for pictures and reports
        return {"loss": float(self.loss / self.confusion.sum().clamp(min=1)), **confusion_scores(self.confusion)}
