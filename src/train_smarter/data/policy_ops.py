"""The operations of RandAugment and TrivialAugment on whole batches, as torchvision defines them for single images.

Images are uint8 (B, C, H, W); magnitudes are floats (B,), one an image. Nothing here waits for a GPU.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from train_smarter.data.image_moves import CoordinateMap, ShiftMap, rotate_map

LEVELS = 256


# ---- moves: magnitudes, height and width of the images -> where pixels come from


def shear_x(magnitudes: Tensor, height: int, width: int) -> CoordinateMap:  # noqa: ARG001 (as the others)
    """Columns by so many pixels a row; the upper edge stays."""
    slope = magnitudes.view(-1, 1, 1)
    return lambda row, column: (row, column + slope * (row + height / 2))


def shear_y(magnitudes: Tensor, height: int, width: int) -> CoordinateMap:  # noqa: ARG001
    """Rows by so many pixels a column; the left edge stays."""
    slope = magnitudes.view(-1, 1, 1)
    return lambda row, column: (row + slope * (column + width / 2), column)


def translate_x(magnitudes: Tensor, height: int, width: int) -> CoordinateMap:  # noqa: ARG001
    """To the right, by whole pixels."""
    return ShiftMap(torch.zeros_like(magnitudes), -magnitudes.trunc())


def translate_y(magnitudes: Tensor, height: int, width: int) -> CoordinateMap:  # noqa: ARG001
    """Down, by whole pixels."""
    return ShiftMap(-magnitudes.trunc(), torch.zeros_like(magnitudes))


def rotate(magnitudes: Tensor, height: int, width: int) -> CoordinateMap:  # noqa: ARG001
    """Counter-clockwise, by degrees."""
    return rotate_map(magnitudes.deg2rad())


MOVES: Mapping[str, Callable[[Tensor, int, int], CoordinateMap]] = {
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
}


# ---- changes of values. Pixels lie channels last in memory: there, operations on whole rows take a tenth of the time.


def adjust_brightness(images: Tensor, magnitudes: Tensor) -> Tensor:
    flat = _to_pixels(images).flatten(1)
    return _to_images(flat.float().mul_(1 + magnitudes[:, None]), images)


def adjust_saturation(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Images that have not three channels stay as they are."""
    if images.shape[1] != 3:
        return images
    pixels = _to_pixels(images).float()
    others = _to_gray(pixels).mul_(-magnitudes.view(-1, 1, 1))
    pixels.flatten(1).mul_(1 + magnitudes[:, None])
    for channel in pixels.unbind(3):
        channel.add_(others)
    return _to_images(pixels, images)


def adjust_contrast(images: Tensor, magnitudes: Tensor) -> Tensor:
    pixels = _to_pixels(images).float()
    others = _to_gray(pixels).mean((1, 2)).mul_(-magnitudes)[:, None]
    return _to_images(pixels.flatten(1).mul_(1 + magnitudes[:, None]).add_(others), images)


def adjust_sharpness(images: Tensor, magnitudes: Tensor) -> Tensor:
    """The border of one pixel stays as it is."""
    channels, height, width = images.shape[1:]
    if height <= 2 or width <= 2:
        return images
    rows = _to_pixels(images).float().flatten(2)  # (B, H, W C)
    inner = rows[:, 1:-1, channels:-channels]
    across = rows[:, :, : -2 * channels] + rows[:, :, channels:-channels] + rows[:, :, 2 * channels :]
    blurred = across[:, :-2] + across[:, 1:-1] + across[:, 2:]
    blurred.add_(inner, alpha=4).mul_(1 / 13).round_()  # the kernel has 5 / 13 in the middle, and 1 / 13 around it
    inner.add_(blurred.sub_(inner).mul_(-magnitudes.view(-1, 1, 1)))
    return _to_images(rows, images)


def posterize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Keep so many bits of each pixel, the high ones."""
    mask = (-1 << (8 - magnitudes.int())).to(torch.uint8)
    return _to_images(_to_pixels(images).flatten(1) & mask[:, None], images)


def solarize(images: Tensor, magnitudes: Tensor) -> Tensor:
    """Invert the pixels from this share of the brightest value on."""
    flat = _to_pixels(images).flatten(1)
    below = (255 * magnitudes).ceil().to(torch.uint8)[:, None] > flat
    return _to_images(flat ^ (below.to(torch.uint8) - 1), images)  # 255, all bits, where it is not below


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Spread each channel over 0 to 255; one of a single value stays as it is."""
    lowest, highest = (bound.float() for bound in (images.amin((2, 3)), images.amax((2, 3))))  # (B, C)
    flat = lowest == highest
    rows = _to_pixels(images).float().flatten(2)  # (B, H, W C)
    scale = ((highest - lowest) * (1 / 255)).where(~flat, 1.0)
    low, scale = (each.repeat(1, images.shape[3])[:, None] for each in (lowest.where(~flat, 0.0), scale))
    return _to_images(rows.sub_(low).div_(scale), images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Make the histogram of each channel even, as PIL does."""
    index = images.flatten(2).long()  # (B, C, H W)
    counts = index.new_zeros(*index.shape[:2], LEVELS).scatter_add_(2, index, index.new_ones(1).expand_as(index))
    below = counts.cumsum(2)
    last = counts.gather(2, below.argmax(2, keepdim=True))  # pixels of the brightest value
    step = (index.shape[2] - last) // (LEVELS - 1)
    table = ((below[:, :, :-1] + step // 2) // step.clamp(min=1)).clamp(0, 255)
    table = torch.where(step > 0, F.pad(table, (1, 0)), torch.arange(LEVELS, device=images.device))
    return table.to(torch.uint8).gather(2, index).view(images.shape)


PIXEL_OPS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": adjust_brightness,
    "Color": adjust_saturation,
    "Contrast": adjust_contrast,
    "Sharpness": adjust_sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
}


def _to_pixels(images: Tensor) -> Tensor:
    """(B, H, W, C), contiguous; of images whose channels are last in memory, the same memory."""
    return images.permute(0, 2, 3, 1).contiguous()


def _to_images(pixels: Tensor, images: Tensor) -> Tensor:
    """Pixels (B, H, W, C), or flat, cut off at 0 and 255 -> uint8 of the images' shape."""
    # By way of int16: on a CPU a third of the time.
    values = pixels if pixels.dtype == torch.uint8 else pixels.clamp_(0, 255).to(torch.int16).to(torch.uint8)
    return values.view(len(images), *images.shape[2:], images.shape[1]).permute(0, 3, 1, 2)


def _to_gray(pixels: Tensor) -> Tensor:
    """(B, H, W, C) floats -> (B, H, W): the brightness of RGB in whole numbers, the mean of other channels."""
    if pixels.shape[3] != 3:
        return pixels.mean(3)
    red, green, blue = pixels.unbind(3)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()
