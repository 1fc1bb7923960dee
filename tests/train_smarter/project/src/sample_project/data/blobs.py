"""Made images with a mask of classes."""

from typing import Any

import torch

from train_smarter import Examples, ImageData, RawDataset


class Blobs(ImageData):
    """`count` grey images of 16x16 pixels: a bright square and a dark one on noise; without official splits.

    Args:
        count: images.
    """

    def __init__(self, *, count: int = 120, **data: Any) -> None:
        super().__init__(**data)
        self.count = count

    def read(self) -> RawDataset:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(100, 156, (self.count, 1, 16, 16), generator=generator).to(torch.uint8)
        masks = torch.zeros(self.count, 16, 16, dtype=torch.uint8)
        corners = torch.randint(0, 11, (self.count, 2, 2), generator=generator).tolist()
        for image, mask, places in zip(images, masks, corners, strict=True):
            for (top, left), brightness, label in zip(places, (230, 20), (1, 2), strict=True):
                image[0, top : top + 5, left : left + 5] = brightness
                mask[top : top + 5, left : left + 5] = label
        return RawDataset(["background", "bright", "dark"], Examples(images, masks))
