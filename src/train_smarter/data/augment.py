"""Augmentations of whole batches of images, with a draw of its own for every image.

The pure functions take the drawn numbers; the classes hold the settings and draw. Nothing here waits for the device:
no number is read back and no shape depends on the data. With all settings at 0 an augmentation does nothing and is
false, so a data set can list every one of them, ready to be switched on by a single override.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from train_smarter.data.image_boxes import paste_boxes
from train_smarter.data.image_moves import CoordinateMap, MirrorMap, ShiftMap, apply_maps, rotate_map
from train_smarter.data.resized_crop import draw_boxes, resize_boxes, sample_boxes
from train_smarter.errors import UserError


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


def _to_gray(images: Tensor) -> Tensor:
    """Brightness as the eye sees it (ITU-R 601) of RGB, or the mean of other channels: (B, 1, H, W)."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    grey: Tensor = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    return grey


def to_float(images: Tensor) -> Tensor:
    """uint8 -> floats in 0..1; floats are there already."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Images (B, C, H, W), floats in 0..1, and a generator, both on one device -> images of the same shape.

    A subclass's fields are its settings, each from 0 (nothing happens) to its entry in `MAXIMA`.
    """

    MAXIMA: ClassVar[dict[str, float]] = {}
    TAKES_BYTES: ClassVar[bool] = False  # uint8 images as well, which stay uint8

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


def randint(count: int, images: Tensor, generator: torch.Generator) -> Tensor:
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
        return MirrorMap(torch.rand(len(images), generator=generator, device=images.device) < self.p)


@dataclass(frozen=True, kw_only=True)
class Crop(GeometricAugmentation):
    """A random window of the image's own size out of the image padded by `padding` zeros all round."""

    padding: int = 0

    def limits(self, height: int, width: int) -> dict[str, float]:
        return {"padding": min(height, width) // 2}  # a corner, a quarter of the image, is always seen

    def sample_map(self, images: Tensor, generator: torch.Generator) -> CoordinateMap:
        down, right = (randint(2 * self.padding + 1, images, generator) - self.padding for _ in range(2))
        return ShiftMap(down, right)


@dataclass(frozen=True, kw_only=True)
class ResizedCrop(Augmentation):
    """A random box of the image, scaled to the size that the model sees: torchvision's `RandomResizedCrop`.

    Args:
        scale: the smallest and the largest share of the image's area; one number: the smallest, and 1 the largest.
        ratio: the smallest and the largest width / height of the box.
    """

    scale: float | Sequence[float] = 0
    ratio: Sequence[float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        scale = [self.scale, 1] if _is_number(self.scale) and self.scale else self.scale
        if scale and not _is_range(scale, 1):
            raise UserError(
                f"ResizedCrop takes a number from 0 to 1 as scale, the smallest share of the image, or two, the "
                f"smallest and the largest share, for example [0.08, 1], not {self.scale!r}"
            )
        if not _is_range(self.ratio, math.inf):
            raise UserError(
                "ResizedCrop takes two numbers above 0 as ratio, the smallest and the largest width / height, for "
                f"example [0.75, 1.33], not {self.ratio!r}"
            )
        object.__setattr__(self, "scale", tuple(scale) if scale else 0)  # type: ignore[arg-type]
        object.__setattr__(self, "ratio", tuple(self.ratio))

    def __bool__(self) -> bool:
        return bool(self.scale)

    def sample_boxes(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draws a box for each of the images (B, C, H, W): see `resized_crop.sample_boxes`."""
        (low, high), (narrow, wide) = self.scale, self.ratio  # type: ignore[misc]
        return sample_boxes(images, generator, scale=(low, high), ratio=(narrow, wide))

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return resize_boxes(images, self.sample_boxes(images, generator), (images.shape[2], images.shape[3]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_range(value: Any, most: float) -> bool:
    """Two numbers above 0, up to `most`, the second at least the first."""
    if not isinstance(value, Sequence) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return bool(0 < value[0] <= value[1] <= most and value[1] < math.inf)


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
        row, column = (randint(side, images, generator) for side in images.shape[2:])
        return cutout(images, row, column, size=self.size)


@dataclass(frozen=True, kw_only=True)
class Erase(Augmentation):
    """A box of one color in the image: torchvision's `RandomErasing`.

    Source: Zhong et al., Random Erasing Data Augmentation, 2017.

    Args:
        p: probability that an image has a box.
        scale: the smallest and the largest share of the image's area.
        ratio: the smallest and the largest height / width of the box.
        fill: the color in 0..1, one number, or one per channel.
    """

    p: float = 0
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    fill: float | Sequence[float] = 0
    TAKES_BYTES: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (_is_number(self.p) and 0 <= self.p <= 1):
            raise UserError(f"Erase takes a number from 0 to 1 as p, not {self.p!r}")
        for name, most, of in (("scale", 1, "share of the image"), ("ratio", math.inf, "height / width")):
            value = getattr(self, name)
            if not _is_range(value, most):
                raise UserError(
                    f"Erase takes two numbers above 0 as {name}, the smallest and largest {of}, not {value!r}"
                )
            object.__setattr__(self, name, tuple(value))
        fill: Any = [self.fill] if _is_number(self.fill) else self.fill
        known = isinstance(fill, Sequence) and fill and all(_is_number(one) and 0 <= one <= 1 for one in fill)
        if self and not known:  # of a data set, it is the mean, which may be any number
            raise UserError(
                f"Erase takes a color as fill, one number from 0 to 1 or one per channel, not {self.fill!r}"
            )
        object.__setattr__(self, "fill", tuple(fill))

    def __bool__(self) -> bool:
        return self.p > 0

    def apply(self, images: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.rand(len(images), generator=generator, device=images.device) < self.p
        ratio = (1 / self.ratio[1], 1 / self.ratio[0])  # width / height
        boxes, found = draw_boxes(images, generator, scale=(self.scale[0], self.scale[1]), ratio=ratio, margin=1)
        return paste_boxes(images, boxes * (chosen & found)[:, None], self._color(images))

    def _color(self, images: Tensor) -> Tensor:
        """(1, C or 1, 1, 1), of the images' type."""
        most = 255 if images.dtype == torch.uint8 else 1
        values = [round(most * value) if most > 1 else value for value in self.fill]  # type: ignore[union-attr]
        color = torch.tensor(values, dtype=images.dtype)
        return color.to(images.device, non_blocking=True).view(1, -1, 1, 1)
