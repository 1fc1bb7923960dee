"""An image file of any size and kind as the tensor that a data set keeps in memory."""

import importlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from train_smarter.data.image_files import HAS_HEIF
from train_smarter.data.image_fit import RESIZES, fit

MODES = {1: ("L", "converted to grey"), 3: ("RGB", "converted to RGB")}  # by channels: Pillow's mode, and its making


def decode(file: Path | IO[bytes], *, shape: Sequence[int], resize: str = "stretch") -> tuple[Tensor, tuple[str, ...]]:
    """An image file of any size and kind as uint8 (C, H, W), and what had to be done to it, in words: see `pixels`."""
    array, changes = pixels(file, shape=shape, resize=resize)
    return torch.from_numpy(array.transpose(2, 0, 1).copy()), changes


def pixels(
    file: Path | IO[bytes], *, shape: Sequence[int], resize: str = "stretch"
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """An image file of any size and kind as uint8 (H, W, C), and what had to be done to it, in words.

    Turned upright as its camera noted, laid on white where it is transparent, made grey (by luminance) or RGB, scaled
    with antialiasing. Of 16 bits the upper eight count, of an animation the first picture.

    Args:
        shape: C, H, W, of which C is 1 or 3.
        resize: see `image_fit.fit`.

    Raises:
        Exception: the file is broken; Pillow's readers may raise anything.
    """
    _register_heif()
    channels, height, width = shape
    mode, converted = MODES[channels]
    with Image.open(file) as image:
        # A JPEG is decoded straight to a smaller size, four times as fast for a photo; far enough from its last size to
        # keep the result.
        image.draft(None, (4 * max(height, width), 4 * max(height, width)))
        upright = ImageOps.exif_transpose(image)
        changes = {
            converted: upright.mode != mode,
            "laid on white where transparent": upright.has_transparency_data,
            f"{_action(upright, shape, resize)} to {width}x{height}": upright.size != (width, height),
        }
        scaled = fit(_drop_alpha(upright).convert(mode), (width, height), resize=resize)
        array = np.asarray(scaled).reshape(height, width, channels)
    return array, tuple(name for name, done in changes.items() if done)


def _action(image: Image.Image, shape: Sequence[int], resize: str) -> str:
    """What `fit` does, in words; to an image of the right proportions it does the same, whatever the setting."""
    return RESIZES["stretch" if image.width * shape[1] == image.height * shape[2] else resize]


@cache
def _register_heif() -> None:
    """Let Pillow open HEIC files, with the extra; it loads a large library, so the first image waits for it."""
    if HAS_HEIF:
        importlib.import_module("pillow_heif").register_heif_opener()


def _drop_alpha(image: Image.Image) -> Image.Image:
    """Of at most eight bits a channel, and without transparency."""
    if image.mode == "F":
        raise ValueError("pixels are floats, of which no range is known; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits; PIL itself would cut everything from 256 on to white
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image
