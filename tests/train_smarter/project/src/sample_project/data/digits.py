"""Handwritten digits that come with scikit-learn."""

from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from train_smarter import Examples, ImageData, RawDataset


class Digits(ImageData):
    """1,797 digits of 8x8 pixels in 17 grey levels, scaled to `size` x `size`; without official splits."""

    def __init__(self, *, size: int = 28, **data: Any) -> None:
        super().__init__(**data)
        self.size = size

    def read(self) -> RawDataset:
        digits = load_digits()
        images = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)  # (N, 1, 8, 8), 0..255
        images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        labels = torch.from_numpy(digits.target).long()
        return RawDataset([str(name) for name in digits.target_names], Examples(images.round().to(torch.uint8), labels))
