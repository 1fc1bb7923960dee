"""Accuracy, precision, recall and F1 from one integer confusion matrix."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


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


class Confusion(Metric):
    """Counts predicted against true classes, on the device.

    Args:
        num_classes: K.
        names: of the metrics that `compute` returns; see `confusion_scores`.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, names: Iterable[str] = ("accuracy", "precision", "recall", "f1")) -> None:
        super().__init__()
        self.num_classes, self.names = num_classes, tuple(names)
        self.add_state("counts", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.matrix = torch.zeros(0, 0, dtype=torch.long)  # (K, K), over all processes, of the latest `compute`

    def update(self, predicted: Tensor, targets: Tensor) -> None:
        """predicted, targets: (N,) int64."""
        cells = targets * self.num_classes + predicted
        self.counts.view(-1).index_add_(0, cells, torch.ones_like(cells))

    def compute(self) -> dict[str, float]:
        self.matrix = self.counts.cpu().clone()
        scores = confusion_scores(self.counts)
        return {name: scores[name] for name in self.names}

    def details(self) -> dict[str, Any]:
        return {"confusion": self.matrix.tolist()}
