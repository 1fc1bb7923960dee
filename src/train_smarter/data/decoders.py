"""Turn a file into one row of a storage; the storages know nothing else of what they hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from train_smarter.data.image_io import pixels


class Decoder(Protocol):
    """Decode files to rows of one shape. It is copied to worker processes, so it holds plain values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row as it is stored: (H, W, C) of an image, (H, W) of a mask."""
        raise NotImplementedError

    @property
    def settings(self) -> Mapping[str, Any]:
        """JSON values that the rows depend on, with a version of the code: a part of a cache's key."""
        raise NotImplementedError

    def check(self, file: Path) -> None:
        """Look at the header of a file alone.

        Raises:
            Exception: it is broken.
        """
        raise NotImplementedError

    def __call__(self, file: Path) -> NDArray[np.uint8]:
        """Decode a file to `shape`.

        Raises:
            Exception: it is broken.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class ImageDecoder:
    """Photos and drawings of any size and kind: see `image_io.pixels`.

    height, width, channels: of a row.
    resize: see `image_fit.fit`.
    """

    height: int
    width: int
    channels: int = 3
    resize: str = "stretch"

    VERSION = 1  # to be raised when the pixels change

    @property
    def shape(self) -> tuple[int, ...]:
        return self.height, self.width, self.channels

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"kind": "images", "version": self.VERSION, "shape": self.shape, "resize": self.resize}

    def check(self, file: Path) -> None:
        with Image.open(file):
            pass

    def __call__(self, file: Path | IO[bytes]) -> NDArray[np.uint8]:
        return pixels(file, shape=(self.channels, self.height, self.width), resize=self.resize)[0]


def reason(error: Exception) -> str:
    """Why a file could not be decoded, in words and without its name."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
