"""A network from image to image."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_smarter import Model


class UNetTiny(Model):
    """Two convolutions, the second at half the resolution, and both joined. (B, C, H, W) -> (B, K, H, W)."""

    def __init__(self, *, shape: Sequence[int], width: int = 8, **model: Any) -> None:
        super().__init__(**model)
        self.fine = nn.Conv2d(shape[0], width, 3, padding=1)
        self.coarse = nn.Conv2d(width, width, 3, padding=1)
        outputs = self.task.num_outputs or shape[0]  # a task without a number: an image like the input
        self.head = nn.Conv2d(2 * width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = F.relu(self.fine(images))  # (B, width, H, W)
        coarse = F.relu(self.coarse(F.max_pool2d(fine, 2)))
        outputs: Tensor = self.head(torch.cat([fine, F.interpolate(coarse, size=fine.shape[2:])], 1))
        return outputs
