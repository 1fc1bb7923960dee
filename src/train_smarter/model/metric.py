"""Accuracy, precision, recall and F1 from one integer confusion matrix."""

import torch
from torch import Tensor
from torchmetrics import Metric


def scores(confusion: Tensor) -> dict[str, float]:
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


class Tally(Metric):
    """Counts predictions and adds losses up on the device; nothing is computed or synchronised before `compute`."""

    full_state_update = False
    confusion: Tensor
    loss: Tensor
    total: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: Tensor, predicted: Tensor, labels: Tensor) -> None:
        """loss: mean over the batch, a scalar; predicted, labels: (B,) int64."""
        cells = labels * self.num_classes + predicted
        self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))
        self.loss += loss.detach() * len(labels)

    def compute(self) -> dict[str, float]:
        """`loss` (mean per example) and the `scores`, as plain numbers; over all processes."""
        self.total = self.confusion.cpu().clone()  # (K, K), over all processes; kept for pictures and reports
        return {"loss": float(self.loss / self.confusion.sum().clamp(min=1)), **scores(self.confusion)}
