"""MNIST in the layout of torchvision."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train_smarter import Examples, ImageData, RawDataset, UserError, data_dir, fetch

TRAIN, TEST = 60_000, 10_000  # images
MD5 = {  # of each file, with .gz behind its name
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}


class MNIST(ImageData):
    """70,000 grey handwritten digits of 28x28 pixels, officially 60,000 to train and 10,000 to test.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998.

    Args:
        dir: the four files lie in its `MNIST/raw`, packed (.gz) or not; those that are missing are downloaded.
        urls: folders in which the four .gz files are found, in the order in which they are tried.
    """

    def __init__(self, *, dir: str, urls: Sequence[str], **data: Any) -> None:  # noqa: A002
        super().__init__(**data)
        self.folder, self.urls = data_dir(dir) / "MNIST" / "raw", urls

    def download(self) -> None:
        for name, md5 in MD5.items():
            packed = self.folder / f"{name}.gz"
            if not (self.folder / name).is_file() and not packed.is_file():
                urls = [f"{url.rstrip('/')}/{packed.name}" for url in self.urls]
                fetch(urls, packed, md5=md5, hint="data=digits needs no download")

    def read(self) -> RawDataset:
        return RawDataset(
            [str(digit) for digit in range(10)],
            train=self._examples("train", TRAIN),
            test=self._examples("t10k", TEST),
        )

    def _examples(self, part: str, count: int) -> Examples:
        images = read_idx(self.folder / f"{part}-images-idx3-ubyte", (count, 28, 28))
        labels = read_idx(self.folder / f"{part}-labels-idx1-ubyte", (count,))
        return Examples(images[:, None], labels.long())  # (N, 1, 28, 28)


def read_idx(file: Path, shape: tuple[int, ...]) -> Tensor:
    """The uint8 numbers of an idx file, or of the same file packed, with .gz behind its name.

    The format: two zero bytes, 8 (for uint8), the number of dimensions; each dimension as four bytes, the highest
    first; the numbers.

    Raises:
        UserError: the file is missing, broken, or not of this shape.
    """
    file = file if file.is_file() else file.with_name(f"{file.name}.gz")
    try:
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise _file_error(file, str(error)) from error
    header = bytes([0, 0, 8, len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape)
    if not content.startswith(header):
        raise _file_error(file, f"it does not begin like {' x '.join(map(str, shape))} numbers of one byte")
    numbers = np.frombuffer(content, dtype=np.uint8, offset=len(header))
    if len(numbers) != np.prod(shape):
        raise _file_error(file, f"{len(numbers):,} numbers instead of {np.prod(shape):,}")
    return torch.from_numpy(numbers.copy()).view(shape)  # a copy: bytes are read-only


def _file_error(file: Path, why: str) -> UserError:
    return UserError(f"{file} is not the official file ({why}): delete it and start again to download it")
