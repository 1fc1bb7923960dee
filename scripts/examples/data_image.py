"""Placeholder: generated images of stripes in three directions. Replace `read` with the reading of your own images."""

import torch
from torch import Tensor

from train_smarter import Examples, ImageData, RawDataset

NAMES = ["horizontal", "vertical", "diagonal"]
COUNT, SIZE = 600, 32  # images, pixels
PERIOD = 8  # pixels from one stripe to the next


class Placeholder(ImageData):
    """600 noisy images of 32x32 pixels in 3 classes, the same in every run."""

    def read(self) -> RawDataset:
        # Your own reading goes here. Return uint8 images (N, C, H, W) and int64 labels (N,) from 0 to K - 1, in a fixed
        # order. Where there are official splits: RawDataset(NAMES, train=Examples(...), test=Examples(...)); the engine
        # cuts the missing ones from train. Then set `num_classes` and `shape` in the YAML file. For files to fetch,
        # add a method `download`, which runs once per machine (`from train_smarter import fetch, unpack`).
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(COUNT) % len(NAMES)
        images = draw_stripes(labels, generator)[:, None].repeat(1, 3, 1, 1)  # (N, 3, H, W)
        noise = torch.randint(0, 64, images.shape, generator=generator)
        return RawDataset(NAMES, train=Examples((images + noise).to(torch.uint8), labels))


def draw_stripes(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Labels (N,) -> images (N, H, W), int64 from 0 to 160; the stripes begin at a random pixel."""
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    position = torch.stack([row, column, row + column])[labels]  # (N, H, W)
    shift = torch.randint(0, PERIOD, (len(labels), 1, 1), generator=generator)
    return ((position + shift) % PERIOD < PERIOD // 2).long() * 160
