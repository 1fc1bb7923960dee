"""A number that a user gives an item."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from train_smarter.data.interactions import UNKNOWN
from train_smarter.errors import UserError
from train_smarter.task.base import Columns
from train_smarter.task.regression import Regression
from train_smarter.task.samples.rating import RatingSamples
from train_smarter.task.top_items import top_columns, top_items

UNKNOWN_NOTES = ("", "unknown user", "unknown item", "unknown user and item")


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
        self.top: int | None = None
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

    def make_samples(self, count: int) -> RatingSamples:
        return RatingSamples(self, count)

    def set_top(self, top: int) -> None:
        self.top, self.num_outputs = top, None  # a network returns a score of each item

    def predict_input(self, network: Any, inputs: Any) -> dict[str, Tensor]:
        """The ratings of pairs, or, after `set_top`, the items with the highest ones for each user."""
        if self.top is not None:
            best = top_items(network, inputs, self.top)
            return best | {"score": self.predict(best["score"])["prediction"]}
        if "item" not in inputs:
            raise UserError(
                "a rating is that of a user and an item: name the items in a column item; or type top=10 for the items "
                "that each user would rate highest"
            )
        unknown = (inputs["user"] == UNKNOWN) + 2 * (inputs["item"] == UNKNOWN)
        return {**self.predict(network(inputs)), "note": unknown}

    def predict_split(self, network: Any, inputs: Any) -> dict[str, Tensor]:
        if self.top is not None:
            raise UserError("top=... ranks items for users, and a split has pairs: give input=<file> with users")
        return super().predict_split(network, inputs)

    def columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        if "item" in prediction:
            return top_columns(prediction, names, otherwise="items with the highest ratings of all users")
        columns = super().columns({"prediction": prediction["prediction"]}, ())
        notes = prediction["note"].tolist() if "note" in prediction else None
        return columns if notes is None else {**columns, "note": [UNKNOWN_NOTES[note] for note in notes]}

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        return self.predict(outputs.float())["prediction"] - self.mean, self._scaled(targets)
