"""What tasks that rank items for users have in common: their predictions, and what the report shows of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.interactions import UNKNOWN
from train_smarter.task.base import Columns, Task
from train_smarter.task.samples.ranking import RankingSamples
from train_smarter.task.top_items import join_items, top_columns, top_items


class Recommendation(Task):
    """Outputs are scores of all items (B, I); inputs {"user": (B,), "history": (B, L)}, targets {"items": (B, M), ...}.

    Args:
        num_items: I.
        k: items of each user that are recommended.

    Attributes:
        popularity: (I,), training interactions of each item; what users get that the model knows nothing about.
    """

    popularity: Tensor

    def __init__(self, *, num_items: int, k: int = 10, **task: Any) -> None:
        super().__init__(**task)
        self.num_items, self.k, self.top = num_items, k, k
        self.register_buffer("popularity", torch.zeros(num_items))

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"scores": outputs}  # (B, I)

    def decisions(self, prediction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"first item": prediction["scores"].argmax(1)} if "scores" in prediction else {}

    # ---- what `predict` writes

    def set_top(self, top: int) -> None:
        self.top = top

    def predict_input(self, network: Any, inputs: Any) -> dict[str, Tensor]:
        """The best items of each user that are not in its history."""
        return top_items(network, inputs, self.top, popularity=self.popularity)

    predict_split = predict_input

    def columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        return top_columns(prediction, names, otherwise="popular items") if "item" in prediction else {}

    def true_columns(self, targets: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        """The items to find, as a column history has them."""
        rows = [[item for item in row if item != UNKNOWN] for row in targets["items"].tolist()]
        return {"true": [join_items([names[item] if names else str(item) for item in row]) for row in rows]}

    def make_samples(self, count: int) -> RankingSamples:
        return RankingSamples(self, count)
