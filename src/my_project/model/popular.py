"""The items that most users have had."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from train_smarter import Data, InteractionData, Model, UserError


class Popular(Model):
    """Scores {"user": (B,), "history": (B, L)} -> (B, I), the same for all users: the log share of each item in train.

    A baseline: a model that knows its users has to rank better.

    Args:
        num_items: I.
    """

    scores: Tensor

    def __init__(self, *, num_items: int, **model: Any) -> None:
        super().__init__(**model)
        self.register_buffer("scores", torch.zeros(num_items))

    def solve(self, data: Data) -> None:
        counts = require_interactions(self, data).train_counts()[1].double()
        self.scores.copy_(((counts + 1) / (counts + 1).sum()).log())  # one more: an item of none has a finite score

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        require_history(self, inputs)
        return self.scores.expand(inputs["user"].shape[0], -1)


def require_interactions(model: Model, data: Data) -> InteractionData:
    if not isinstance(data, InteractionData):
        raise UserError(f"{type(model).__name__} recommends items: give it interactions, data=movielens for example")
    return data


def require_history(model: Model, inputs: Mapping[str, Tensor]) -> Tensor:
    """The items (B, L) that are known of each user, padded with -1."""
    if "history" not in inputs:
        raise UserError(
            f"{type(model).__name__} ranks all items, and scores no pairs: type task=ranking task.loss=softmax"
        )
    return inputs["history"]
