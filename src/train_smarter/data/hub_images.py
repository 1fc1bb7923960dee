"""Images in a column of a `datasets.Dataset`, decoded and cached like image files."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train_smarter.data.decoders import ImageDecoder, reason


@dataclass(frozen=True)
class ColumnDecoder:
    """Decode the images of a column; a "file" is the name that `files` gives to a row.

    column: a `datasets.Dataset` of one column of images that are not decoded: their bytes, or a path.
    key: changes when the data set does.
    name: of the data set and the split, for messages.
    """

    column: Any
    key: str
    name: str
    images: ImageDecoder

    @property
    def files(self) -> list[Path]:
        """A name for each row, in their order."""
        return [Path(f"{self.name} row {row:09d}") for row in range(1, len(self.column) + 1)]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self.images.settings, "dataset": self.key}

    def check(self, file: Path) -> None:
        with Image.open(self._open(file)):
            pass

    def __call__(self, file: Path) -> NDArray[np.uint8]:
        source = self._open(file)
        try:
            return self.images(source)
        except Exception as error:  # a broken file fails in many ways
            raise ValueError(f"{reason(error)} ({source})" if isinstance(source, Path) else reason(error)) from error

    def _open(self, file: Path) -> Path | IO[bytes]:
        # Never by `datasets`, which would fetch an image whose path is an address.
        (image,) = self.column[int(file.name.rpartition(" ")[2]) - 1].values()
        if image is None:
            raise ValueError("no image")
        return io.BytesIO(image["bytes"]) if image.get("bytes") else Path(str(image.get("path")))
