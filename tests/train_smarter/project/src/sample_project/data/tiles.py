"""A Dataset with torchvision's transforms, as a user brings it: items are read when a batch needs them."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from train_smarter import Examples, ImageData, RawDataset

COUNT = 60
RANDOM = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(8, padding=1), v2.ColorJitter(brightness=0.2)])


class TileDataset(Dataset[tuple[Tensor, int]]):
    """Tiles of 8x8 pixels, brighter at the top or at the bottom."""

    def __init__(self, transform: Any = None) -> None:
        self.transform = transform
        self.labels = [number % 2 for number in range(COUNT)]

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image = torch.randint(0, 156, (3, 8, 8), generator=torch.Generator().manual_seed(number)).to(torch.uint8)
        image[:, 4 * self.labels[number] :][:, :4] += 100
        return self.transform(image) if self.transform else image, self.labels[number]


class Tiles(ImageData):
    """Two classes of tiles."""

    def read(self) -> RawDataset:
        data = TileDataset(RANDOM)
        return RawDataset(["top", "bottom"], Examples.from_dataset(data, data.labels, eval_dataset=TileDataset()))
