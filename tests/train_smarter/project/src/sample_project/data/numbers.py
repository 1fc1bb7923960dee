"""Made tables: two numbers are a noisy linear function of five."""

from collections.abc import Sequence
from typing import Any

import torch

from train_smarter import Data, Examples, RawDataset


class Numbers(Data):
    """`count` rows of five numbers, float32, with the targets `height` and `weight`; without official splits.

    Args:
        shape: [5].
        count: rows.
    """

    def __init__(self, *, shape: Sequence[int], count: int = 300, **data: Any) -> None:
        super().__init__(**data)
        self.shape, self.count = tuple(shape), count

    def read(self) -> RawDataset:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(self.count, *self.shape, generator=generator)
        factors = torch.tensor([[3.0, 0.0], [0.0, 20.0], [1.0, 10.0], [-2.0, 0.0], [0.0, 0.0]])
        noise = torch.randn(self.count, 2, generator=generator) * torch.tensor([0.5, 4.0])
        targets = inputs @ factors + torch.tensor([170.0, 65.0]) + noise
        return RawDataset(["height", "weight"], Examples(inputs, targets))
