"""A number that a user gives an item."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from train_smarter.task.regression import Regression


class Rating(Regression):
    """Outputs are (B, 1): the difference to the mean of the training ratings; targets are floats (B, 1).

    Args:
        clip: predictions, and those that metrics count, stay between the smallest and the largest rating of training;
            the loss is that of the outputs.
        loss: mse, mae or huber.
    """

    OUTPUT_ARGS: ClassVar[Sequence[str]] = ()
    METRICS: ClassVar[Mapping[str, str]] = {"rmse": "min", "mae": "min"}
    lowest: Tensor
    highest: Tensor

    def __init__(self, *, clip: bool = True, **regression: Any) -> None:
        super().__init__(**{**regression, "num_targets": 1, "scale_targets": True})
        self.clip = clip
        self.register_buffer("lowest", torch.tensor(-math.inf))
        self.register_buffer("highest", torch.tensor(math.inf))

    def fit(self, targets: Iterable[Tensor]) -> None:
        """Mean, minimum and maximum of the ratings; their unit stays, since a model's L2 is chosen in it."""
        super().fit(self._note_range(targets))
        self.std.fill_(1.0)

    def _note_range(self, targets: Iterable[Tensor]) -> Iterator[Tensor]:
        lowest, highest = math.inf, -math.inf
        for batch in targets:
            lowest, highest = min(lowest, float(batch.min())), max(highest, float(batch.max()))
            yield batch
        self.lowest.fill_(lowest)
        self.highest.fill_(highest)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        ratings = outputs + self.mean
        return {"prediction": ratings.clamp(self.lowest, self.highest) if self.clip else ratings}  # (B, 1)

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        return self.predict(outputs.float())["prediction"] - self.mean, self._scaled(targets)
