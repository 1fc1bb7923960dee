"""A convolutional network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from train_smarter import Model, UserError


class CNN(Model):
    """Two convolutions, each with a max-pool, and a dense layer. Images (B, C, H, W) -> logits (B, K)."""

    def __init__(
        self,
        *,
        shape: Sequence[int],
        dropout: float = 0.2,
        batch_norm: bool = False,
        hidden: int = 128,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        channels, height, width = shape
        rows, columns = ((side - 2) // 2 - 2 for side in (height, width))  # after conv, pool, conv
        if min(rows, columns) < 2:
            raise UserError(f"model=cnn needs images of at least 10x10 pixels, not {height}x{width}")
        self.features = nn.Sequential(
            *self._block(channels, 32, batch_norm=batch_norm),  # (B, 32, H/2, W/2)
            *self._block(32, 64, batch_norm=batch_norm),  # (B, 64, H/4, W/4)
        ).to(memory_format=torch.channels_last)
        self.head = nn.Sequential(
            nn.Flatten(),  # (B, D)
            nn.Linear(64 * (rows // 2) * (columns // 2), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, self.num_outputs),  # (B, K)
        )

    @staticmethod
    def _block(channels: int, out: int, *, batch_norm: bool) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(out)] if batch_norm else []
        return [nn.Conv2d(channels, out, kernel_size=3), *norm, nn.MaxPool2d(2), nn.ReLU(inplace=True)]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits
