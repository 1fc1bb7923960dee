"""The pixels of masks: which values there are, and which class each is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train_smarter.data.class_folders import shorten
from train_smarter.data.image_fit import place
from train_smarter.errors import UserError

NO_CLASS = 255  # pixels of this value count neither in the loss nor in the metrics
MAX_CLASSES = 255
BINARY = ("background", "foreground")


@dataclass(frozen=True)
class MaskClasses:
    """What the values of pixels mean.

    names: of the classes.
    values: of the pixels of each class, where it is not the class itself; 255 is no class unless it is here.
    """

    names: list[str]
    values: tuple[int, ...] | None = None


def read_mask(file: Path) -> NDArray[Any]:
    """The values of the pixels (H, W): indices of a palette, or grey values of up to 16 bits.

    Raises:
        ValueError: the mask is in colours.
        Exception: it is broken.
    """
    with Image.open(file) as image:
        if image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
            channels = np.asarray(image.convert("RGB"))
            if (channels[..., :1] != channels).any():
                raise ValueError("is in colours; save it with the number of its class in each pixel (grey or palette)")
            return channels[..., 0]
        if image.mode in ("LA", "PA"):
            return np.asarray(image)[..., 0]
        if image.mode == "F":
            raise ValueError("has floats; save it with the number of its class in each pixel")
        return np.asarray(image).astype(np.uint8) if image.mode == "1" else np.asarray(image)


@cache
def class_table(values: tuple[int, ...] | None, count: int) -> NDArray[np.int16]:
    """The class of each 16-bit value; -1: none of the classes."""
    table = np.full(2**16, -1, np.int16)
    table[list(values or range(count))] = range(count)
    table[NO_CLASS] = NO_CLASS if table[NO_CLASS] < 0 else table[NO_CLASS]
    return table


def classes_of_pixels(values: NDArray[Any], meaning: tuple[int, ...] | None, count: int) -> NDArray[np.uint8]:
    """The class of each pixel (H, W).

    Raises:
        ValueError: a value is no class.
    """
    found = class_table(meaning, count)[values.clip(0, 2**16 - 1).astype(np.uint16)]
    if (found < 0).any():
        other = [str(value) for value in np.unique(values[found < 0])]
        known = list(meaning) if meaning else f"0 to {count - 1}"
        raise ValueError(f"has pixels of the value {shorten(other)}; the classes are {known}, and 255 is none")
    return found.astype(np.uint8)


@dataclass(frozen=True)
class MaskDecoder:
    """Masks as classes, scaled to the nearest pixel.

    height, width: of a row. classes: what the values mean. resize: as of their images, see `image_fit.fit`; what is
    padded is no class.
    """

    height: int
    width: int
    count: int
    values: tuple[int, ...] | None = None
    resize: str = "stretch"

    VERSION = 1  # to be raised when the pixels change

    @property
    def shape(self) -> tuple[int, ...]:
        return self.height, self.width

    @property
    def settings(self) -> Mapping[str, Any]:
        meaning = {"count": self.count, "values": self.values}
        return {"kind": "masks", "version": self.VERSION, "shape": self.shape, "resize": self.resize, **meaning}

    def check(self, file: Path) -> None:
        with Image.open(file):
            pass

    def __call__(self, file: Path) -> NDArray[np.uint8]:
        values = read_mask(file)
        size = (self.width, self.height)
        scaled, start = place((values.shape[1], values.shape[0]), size, resize=self.resize)
        columns, rows = (_nearest(*each) for each in zip(size, values.shape[::-1], scaled, start, strict=True))
        classes = np.full(self.shape, NO_CLASS, dtype=np.uint8)
        picked = values[rows[0][:, None], columns[0]]
        classes[np.ix_(rows[1], columns[1])] = classes_of_pixels(picked, self.values, self.count)
        return classes


def _nearest(new: int, old: int, scaled: int, start: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Along one side, which old pixels are seen, and in which new ones; see `place`.

    It is the old pixel whose area has the centre of the new one, as Pillow takes it.
    """
    places = np.arange(new) + start
    inside = (places >= 0) & (places < scaled)
    return ((places[inside] + 0.5) * (old / scaled)).astype(np.int64), inside


# ---- all masks


@dataclass(frozen=True)
class MaskCount:
    """What is in the masks.

    pixels: of each value.
    broken: why a mask cannot be used, by its image.
    """

    pixels: dict[int, int]
    broken: dict[Path, str]


def count_values(pairs: Sequence[tuple[Path, Path]]) -> MaskCount:
    """Count the values of all masks; those that do not fit their image are named."""

    def look(pair: tuple[Path, Path]) -> tuple[dict[int, int], str]:
        try:
            values = read_mask(pair[1])
            if problem := size_problem(values.shape[1::-1], pair[0]):
                return {}, problem
        except Exception as error:  # a broken file fails in many ways
            return {}, str(error) if isinstance(error, ValueError) else "is broken or no image"
        return value_counts(values), ""

    pixels, broken = Counter[int](), dict[Path, str]()
    with ThreadPoolExecutor() as pool:
        for pair, (counted, problem) in zip(pairs, pool.map(look, pairs), strict=True):
            pixels.update(counted)
            if problem:
                broken[pair[0]] = f"{pair[1]} {problem}"
    return MaskCount(dict(pixels), broken)


def value_counts(values: NDArray[Any]) -> dict[int, int]:
    """How many pixels have each value."""
    if values.dtype == np.uint8:  # ten times as fast as sorting them
        counts = np.bincount(values.ravel(), minlength=256)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    return {int(value): int(count) for value, count in zip(*np.unique(values, return_counts=True), strict=True)}


def size_problem(size: Sequence[int], photo: Path) -> str:
    """Why a mask of size (W, H) does not fit an image; empty: it does, or the image is broken.

    It may have more or fewer pixels, in the same proportions.
    """
    try:
        with Image.open(photo) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) >= 5:  # a photo that is shown turned by a right angle
                width, height = height, width
    except Exception:  # named when it is read
        return ""
    if abs(size[0] * height - size[1] * width) <= max(width, height, *size):
        return ""
    return f"has {size[0]}x{size[1]} pixels, but {photo.name} {width}x{height}"


def decide_classes(
    pixels: Mapping[int, int], *, where: str, classes: Sequence[str] | None = None, count: int | None = None
) -> MaskClasses:
    """Which values are classes: 0 to K - 1, or, where they are spread out, the values in their order.

    Args:
        pixels: of each value.
        where: the masks are, for messages.
        classes: names, by value or in the order of the values.
        count: K, where it is given.

    Raises:
        UserError: the values are no classes.
    """
    found = sorted(value for value in pixels if value != NO_CLASS)
    if found in ([], [0]) and pixels.get(NO_CLASS):  # white on black
        found = sorted(pixels)
    shown = shorten([str(value) for value in sorted(pixels)], count=8)
    if len(found) < 2:
        raise UserError(f"{where}: every pixel of the masks has the value {shown}; there are no two classes")
    detected = _detect_classes(found)
    number = len(classes) if classes else count
    if number is None or (detected and not classes and number == len(detected.names)):
        if detected is None:
            raise UserError(
                f"{where}: the masks hold the values {shown}, which are no classes 0, 1, 2, ...; JPEG changes values, "
                "so save masks as PNG; if each value is a class, name them in the order of the values, "
                "data.classes=[...]"
            )
        return detected
    names = list(classes or map(str, range(number)))
    if found[-1] < number <= MAX_CLASSES:
        return MaskClasses(names)
    if classes and number == len(found):
        return MaskClasses(names, tuple(found))
    key = f"data.classes has {number} names" if classes else f"data.num_classes={number}"
    raise UserError(f"{where}: {key}, but the masks hold {len(found)} values, {shown}; 255 is no class")


def _detect_classes(found: Sequence[int]) -> MaskClasses | None:
    """The classes of values, ascending; None: they are too far apart to be classes."""
    if len(found) == 2 and found[0] == 0:
        return MaskClasses(list(BINARY), None if found[1] == 1 else tuple(found))
    if found[-1] < min(MAX_CLASSES, 2 * len(found) + 8):
        return MaskClasses([str(value) for value in range(found[-1] + 1)])
    return None
