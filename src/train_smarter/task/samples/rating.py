"""Predicted against true ratings, residuals and the largest errors, with user and item."""

from typing import Any

from torch import Tensor

from train_smarter.task.samples.base import Kept
from train_smarter.task.samples.measured import measured_view
from train_smarter.task.samples.regression import RegressionSamples
from train_smarter.task.samples.views import View


class RatingSamples(RegressionSamples):
    """Content of an example: true and predicted rating (1,), user and item ()."""

    def content_of(self, batch: Any, true: Tensor, predicted: Tensor) -> tuple[Tensor, ...]:
        return true, predicted, batch[0]["user"], batch[0]["item"]

    def identify(self, kept: Kept, data: Any) -> dict[str, Any]:
        _, _, user, item = kept.content
        names = getattr(data, "item_titles", None) or data.names
        return {"user": data.user_names[int(user)], "item": names[int(item)]}

    def views(self, data: Any, network: Any) -> list[View]:
        found = super().views(data, network)
        return [measured_view(data, {}), *found] if found else []
