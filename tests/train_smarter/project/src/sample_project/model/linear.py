"""A linear function."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from train_smarter import Model


class Linear(Model):
    """One dense layer. Inputs (B, ...) of `shape` -> (B, num_outputs)."""

    def __init__(self, *, shape: Sequence[int], **model: Any) -> None:
        super().__init__(**model)
        self.head = nn.Linear(math.prod(shape), self.num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs
