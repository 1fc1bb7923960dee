"""Placeholder: a small convolutional network. Replace its layers with your own."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from train_smarter import Model


class Placeholder(Model):
    """Two convolutions with ReLU, the mean over all pixels, a linear layer.

    Images (B, C, H, W), 2x2 pixels or more -> logits (B, K), or (B, 1) for two classes.

    Args:
        shape: [C, H, W] of the images.
        width: channels of the first convolution; the second has twice as many.
    """

    def __init__(self, *, shape: Sequence[int], width: int = 16, **model: Any) -> None:
        super().__init__(**model)
        # Your own layers go here; their arguments are keys in the YAML file. Loss and metrics come from Model.
        self.features = nn.Sequential(
            nn.Conv2d(shape[0], width, 3, padding=1),  # (B, width, H, W)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, width, H / 2, W / 2)
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(2 * width, self.num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images).mean((2, 3))  # (B, 2 * width)
        logits: Tensor = self.head(features)
        return logits
