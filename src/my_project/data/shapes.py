"""Made images of circles, squares and triangles with their masks; they need no network."""

from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from train_smarter import Examples, ImageData, RawDataset

NAMES = ("background", "circle", "square", "triangle")
UNKNOWN = 255  # class of the pixels that do not count
FRACTIONS = ((0, 0.6), (0.6, 0.8), (0.8, 1))  # of train, val and test
SEED = 0  # of the data set itself; `seed` and `split_seed` change nothing about it

Mask = NDArray[np.uint8]


class Shapes(ImageData):
    """Grey images of one to three bright shapes on noise, a later shape over an earlier one; masks of 4 classes.

    Args:
        images: how many there are; 60% train, 20% validation, 20% test.
        noise: standard deviation of the pixels, of 255.
        unknown_border: pixels on both sides of an outline belong to no class, 255, as in hand-drawn masks.
    """

    def __init__(self, *, images: int = 1000, noise: float = 40.0, unknown_border: bool = True, **data: Any) -> None:
        super().__init__(**data)
        self.images, self.noise, self.unknown_border = images, noise, unknown_border

    def read(self) -> RawDataset:
        random = np.random.default_rng(SEED)
        pairs = [self._draw(random) for _ in range(self.images)]
        pixels = torch.from_numpy(np.stack([image for image, _ in pairs]))[:, None]  # (N, 1, H, W)
        masks = torch.from_numpy(np.stack([mask for _, mask in pairs]))  # (N, H, W)
        train, val, test = (slice(round(a * self.images), round(b * self.images)) for a, b in FRACTIONS)
        return RawDataset(
            NAMES,
            Examples(pixels[train], masks[train]),
            Examples(pixels[val], masks[val]),
            Examples(pixels[test], masks[test]),
        )

    def _draw(self, random: Generator) -> tuple[Mask, Mask]:
        """Return an image and its mask, both uint8 (H, W)."""
        height, width = self.shape[1:]
        mask = np.zeros((height, width), dtype=np.uint8)
        light = np.full((height, width), 80.0)
        for _ in range(random.integers(1, 4)):
            kind = int(random.integers(1, len(NAMES)))
            inside = _outline(kind, random, height, width)
            mask[inside] = kind
            light[inside] = random.uniform(140, 220)
        image = light + random.normal(0, self.noise, light.shape)
        if self.unknown_border:
            mask[_border(mask)] = UNKNOWN
        return image.clip(0, 255).astype(np.uint8), mask


def _outline(kind: int, random: Generator, height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixels (H, W) a shape covers, at a random place and of a random size."""
    size = random.uniform(0.14, 0.26) * min(height, width)  # half of its width
    down, right = random.uniform(size, height - size), random.uniform(size, width - size)
    rows, columns = np.mgrid[:height, :width]
    y, x = rows + 0.5 - down, columns + 0.5 - right
    if NAMES[kind] == "circle":
        return np.asarray(x**2 + y**2 < size**2)
    if NAMES[kind] == "square":
        return np.asarray(np.maximum(abs(x), abs(y)) < 0.89 * size)  # about the circle's area
    return np.asarray((y < size) & (y > 2 * abs(x) - size))


def _border(mask: Mask) -> NDArray[np.bool_]:
    """Return the pixels (H, W) that have a neighbour of another class above, below, left or right."""
    border = np.zeros(mask.shape, dtype=bool)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border
