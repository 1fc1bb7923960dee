"""Placeholder: classification with the focal loss. Replace loss, predictions and metrics with your own."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from train_smarter import Task


class Placeholder(Task):
    """Outputs are logits (B, K); targets are classes (B,), int64. An example that is easy counts little.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017.

    Args:
        num_classes: K.
        gamma: how little an easy example counts; 0 is the cross-entropy.
    """

    def __init__(self, *, num_classes: int, gamma: float = 2.0, **task: Any) -> None:
        super().__init__(**task)
        self.num_outputs = num_classes  # the network's last layer gets this size
        self.gamma = gamma

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(outputs, targets, reduction="none")  # (B,), -log of the true class's p
        return ((1 - (-loss).exp()) ** self.gamma * loss).mean()

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """The columns of predictions.csv, and the outputs of an exported model."""
        probability, best = outputs.softmax(1).max(1)
        return {"class": best, "probability": probability}  # (B,), (B,)

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """What `update` of the metrics gets."""
        return outputs.argmax(1), targets

    def make_metrics(self) -> nn.Module:
        """The metrics that the YAML file declares; more are one line here and one there."""
        return MetricCollection({"accuracy": MulticlassAccuracy(self.num_outputs, average="micro")})
