"""Made tables with any number of labels a row."""

from collections.abc import Sequence
from typing import Any

import torch

from train_smarter import Data, Examples, RawDataset


class Tags(Data):
    """`count` rows of six numbers, float32; each label is present where a sum of two of them is above a threshold.

    Args:
        shape: [6].
        count: rows.
    """

    def __init__(self, *, shape: Sequence[int], count: int = 300, **data: Any) -> None:
        super().__init__(**data)
        self.shape, self.count = tuple(shape), count

    def read(self) -> RawDataset:
        inputs = torch.randn(self.count, *self.shape, generator=torch.Generator().manual_seed(0))
        sums = inputs[:, 0::2] + inputs[:, 1::2]  # (N, 3)
        return RawDataset(["red", "round", "rare"], Examples(inputs, (sums > torch.tensor([0.0, 0.5, 1.5])).long()))
