"""Augmentations of whole batches of images, with a draw of its own for every image.

The pure functions take the drawn numbers; the classes hold the settings and draw. Nothing here waits for the device:
no number is read back and no shape depends on the data. With all settings at 0 an augmentation does nothing and is
false, so a data set can list every one of them, ready to be switched on by a single override.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from train_smarter.errors import UserError

# Where pixels come from. Rows and columns are counted from the image's middle, -0.5 and 0.5 for two pixels; a move
# takes those of the pixels of the new image, which broadcast to (B, H, W), and returns those of the old one.
CoordinateMap = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def rotate_map(angles: Tensor) -> CoordinateMap:
    """About the centre, counter-clockwise. angles: (B,) in radians."""
    cos, sin = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    return lambda row, column: (sin * column + cos * row, cos * column - sin * row)


def hflip_map(chosen: Tensor) -> CoordinateMap:
    """The chosen images left to right. chosen: (B,) bool."""
    sign = 1.0 - 2.0 * chosen.view(-1, 1, 1)
    return lambda row, column: (row, sign * column)


def shift_map(down: Tensor, right: Tensor) -> CoordinateMap:
    """The window that lies so many pixels further down and right. down, right: (B,)."""
    return lambda row, column: (row + down.view(-1, 1, 1), column + right.view(-1, 1, 1))


def apply_maps(images: Tensor, moves: Sequence[CoordinateMap], *, fill: int = 0) -> Tensor:
    """Images after these moves, one after the other; the nearest pixel is taken, `fill` comes in from outside.

    All of them are one indexed copy: on a CPU a tenth of the time of `affine_grid` and `grid_sample`, and exact for
    flips, shifts, and turns by multiples of 90 degrees (of square images). images: (B, C, H, W), of any type.
    """
    if not moves:
        return images
    height, width = images.shape[2:]
    row, column = _centered_grid(height, images)[:, None], _centered_grid(width, images)  # (H, 1) and (W,)
    for move in reversed(moves):  # the last one tells where the second to last left its pixels
        row, column = move(row, column)
    # In an image with a border of one pixel all round: what lies outside lands on it.
    row = (row + (height + 1) / 2).round_().clamp_(0, height + 1)
    column = (column + (width + 1) / 2).round_().clamp_(0, width + 1)
    return _gather_pixels(images, torch.add(column, row, alpha=width + 2).int(), fill)


def cutout(images: Tensor, row: Tensor, column: Tensor, *, size: int) -> Tensor:
    """A grey square (0.5) of `size` pixels a side, its middle at (row, column); it may reach over the edge.

    images: (B, C, H, W); row, column: (B,) int64.
    """
    inside = [
        (position >= (centre - size // 2)[:, None]) & (position < (centre - size // 2 + size)[:, None])
        for centre, position in (
            (row, torch.arange(images.shape[2], device=images.device)),
            (column, torch.arange(images.shape[3], device=images.device)),
        )
    ]  # (B, H) and (B, W)
    return images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0.5)


def brighten(images: Tensor, factors: Tensor) -> Tensor:
    """Light times a factor. images: (B, C, H, W) in 0..1; factors: (B,), 1 changes nothing."""
    return (images * factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Distance from the image's mean grey times a factor. images: (B, C, H, W) in 0..1; factors: (B,)."""
    return torch.lerp(_to_gray(images).mean((2, 3), keepdim=True), images, factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def saturate(images: Tensor, factors: Tensor) -> Tensor:
    """Distance of each pixel from its own grey times a factor. images: (B, C, H, W) in 0..1; factors: (B,)."""
    return torch.lerp(_to_gray(images), images, factors.view(-1, 1, 1, 1)).clamp_(0, 1)


def rotate_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the colours about the grey axis of the RGB cube, 1 is the whole circle; close to a hue shift in HSV.

    images: (B, 3, H, W) in 0..1; turns: (B,).
    """
    angle = (turns * 2 * math.pi).view(-1, 1, 1, 1)
    across = images.roll(1, 1) - images.roll(2, 1)  # the axis (1, 1, 1) times each pixel, as a cross product
    mean = images.mean(1, keepdim=True)
    # Rodrigues' formula
    return (mean + (images - mean) * angle.cos() + across * (angle.sin() / math.sqrt(3))).clamp_(0, 1)


def _centered_grid(length: int, like: Tensor) -> Tensor:
    """Pixel positions as seen from the middle: -0.5, 0.5 for 2 pixels."""
    return torch.arange(length, device=like.device, dtype=torch.float) - (length - 1) / 2


def _gather_pixels(images: Tensor, place: Tensor, fill: int) -> Tensor:
    """The pixels of images (B, C, H, W) with a border of one `fill`, at places (B, H, W), int32, row by row."""
    pixels = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1), value=fill)  # (B, H + 2, W + 2, C)
    first = torch.arange(len(pixels), device=place.device, dtype=place.dtype) * (pixels.shape[1] * pixels.shape[2])
    picked = pixels.flatten(0, 2).index_select(0, (place + first.view(-1, 1, 1)).flatten())
    return picked.view(*place.shape, -1).permute(0, 3, 1, 2)


def _to_gray(images: Tensor) -> Tensor:
    """Brightness as the eye sees it (ITU-R 601) of RGB, or the mean of other channels: (B, 1, H, W)."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    grey: Tensor = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    return grey


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Images (B, C, H, W), floats in 0..1, and a generator, both on one device -> images of the same shape.

    A subclass's fields are its settings, each from 0 (nothing happens) to its entry in `MAXIMA`.
    """

    MAXIMA: ClassVar[dict[str, float]] = {}

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), self.MAXIMA.get(field.name, math.inf)
            kind = "a whole number" if field.type is int else "a number"
            fits = isinstance(value, int if field.type is int else int | float) and 0 <= value <= most
            if not fits:
                limit = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
                raise UserError(f"{type(self).__name__} takes {kind} {limit} as {field.name}, not {value!r}")

    def limits(self, height: int, width: int) -> dict[str, float]:  # noqa: ARG002 (of a subclass)
        """The largest settings, by name, that leave something of an image of this size."""
        return {}

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any(getattr(self, field.name) for field in fields(self))

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.apply(images, generator) if self else images

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draws, and applies; called only where there is something to do."""
        raise NotImplementedError


def _uniform(around: float, most: float, images: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) numbers, even over around - most to around + most."""
    drawn = torch.rand(len(images), generator=generator, device=images.device)
    return drawn.mul_(2 * most).add_(around - most)


def _randint(count: int, images: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) whole numbers, even over 0 to count - 1."""
    return torch.randint(count, (len(images),), generator=generator, device=images.device)


@dataclass(frozen=True, kw_only=True)
class GeometricAugmentation(Augmentation):
    """An augmentation that moves pixels and leaves their values alone: it takes bytes as well as floats.

    Several in a row are one copy, so `ImageData` collects them.
    """

    def sample_map(self, images: Tensor, generator: torch.Generator) -> CoordinateMap:
        """Draws a move for each of the images (B, C, H, W)."""
        raise NotImplementedError

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return apply_maps(images, [self.sample_map(images, generator)])


@dataclass(frozen=True, kw_only=True)
class Rotation(GeometricAugmentation):
    """Turns by an angle between -degrees and +degrees."""

    degrees: float = 0
    MAXIMA: ClassVar[dict[str, float]] = {"degrees": 180}

    def sample_map(self, images: Tensor, generator: torch.Generator) -> CoordinateMap:
        return rotate_map(_uniform(0, math.radians(self.degrees), images, generator))


@dataclass(frozen=True, kw_only=True)
class Flip(GeometricAugmentation):
    """Mirrors left to right with probability p."""

    p: float = 0
    MAXIMA: ClassVar[dict[str, float]] = {"p": 1}

    def sample_map(self, images: Tensor, generator: torch.Generator) -> CoordinateMap:
        return hflip_map(torch.rand(len(images), generator=generator, device=images.device) < self.p)


@dataclass(frozen=True, kw_only=True)
class Crop(GeometricAugmentation):
    """A random window of the image's own size out of the image padded by `padding` zeros all round."""

    padding: int = 0

    def limits(self, height: int, width: int) -> dict[str, float]:
        return {"padding": min(height, width) // 2}  # a corner, a quarter of the image, is always seen

    def sample_map(self, images: Tensor, generator: torch.Generator) -> CoordinateMap:
        down, right = (_randint(2 * self.padding + 1, images, generator) - self.padding for _ in range(2))
        return shift_map(down, right)


@dataclass(frozen=True, kw_only=True)
class ColorJitter(Augmentation):
    """Brightness, contrast and saturation times a factor between 1 - x and 1 + x; hue turned by -x to x of a circle.

    In this order, for every image. Saturation and hue change only images with three channels.
    """

    brightness: float = 0
    contrast: float = 0
    saturation: float = 0
    hue: float = 0
    MAXIMA: ClassVar[dict[str, float]] = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5}

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.brightness:
            images = brighten(images, _uniform(1, self.brightness, images, generator))
        if self.contrast:
            images = contrast(images, _uniform(1, self.contrast, images, generator))
        if self.saturation and images.shape[1] == 3:
            images = saturate(images, _uniform(1, self.saturation, images, generator))
        if self.hue and images.shape[1] == 3:
            images = rotate_hue(images, _uniform(0, self.hue, images, generator))
        return images


@dataclass(frozen=True, kw_only=True)
class Cutout(Augmentation):
    """A square of `size` pixels a side, grey, its middle anywhere in the image.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017.
    """

    size: int = 0

    def limits(self, height: int, width: int) -> dict[str, float]:
        return {"size": min(height, width)}

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        row, column = (_randint(side, images, generator) for side in images.shape[2:])
        return cutout(images, row, column, size=self.size)
