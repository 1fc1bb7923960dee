"""CIFAR-10 in either of its official layouts."""

import pickle
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from train_smarter import Examples, ImageData, RawDataset, UserError, data_dir, fetch, unpack

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
PER_FILE = 10_000  # images in each of them
PIXELS = 3 * 32 * 32
Bytes = npt.NDArray[np.uint8]


class CIFAR10(ImageData):
    """60,000 colour photos of 32x32 pixels in 10 classes, officially 50,000 to train and 10,000 to test.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        dir: holds `cifar-10-batches-bin` or `cifar-10-batches-py`, or gets the first by a download.
        urls: where cifar-10-binary.tar.gz is found, in the order in which they are tried.
        md5: of that archive.
    """

    def __init__(self, *, dir: str, urls: Sequence[str], md5: str, **data: Any) -> None:  # noqa: A002
        super().__init__(**data)
        self.dir, self.urls, self.md5 = data_dir(dir), urls, md5

    @property
    def binary(self) -> Path:
        return self.dir / "cifar-10-batches-bin"

    @property
    def python(self) -> Path:
        return self.dir / "cifar-10-batches-py"

    def download(self) -> None:
        if not self.binary.is_dir() and not self.python.is_dir():
            archive = self.dir / "cifar-10-binary.tar.gz"
            unpack(fetch(self.urls, archive, md5=self.md5, hint="data=digits needs no download"), self.binary)

    def read(self) -> RawDataset:
        if self.binary.is_dir():
            parts = (read_binary(self.binary / f"{name}.bin") for name in FILES)
        else:
            parts = (read_python(self.python / name) for name in FILES)
        return RawDataset(NAMES, train=_stack_examples(islice(parts, 5)), test=_stack_examples(parts, files=1))


def read_binary(file: Path) -> tuple[Bytes, Bytes]:
    """Pixels (N, 3072) and labels (N,) of a file whose rows are a label and the pixels, one byte each."""
    size = PER_FILE * (1 + PIXELS)
    try:
        content = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise _file_error(file, str(error)) from error
    if len(content) != size:
        raise _file_error(file, f"{len(content):,} bytes instead of {size:,}")
    rows = content.reshape(PER_FILE, 1 + PIXELS)
    return _check_file(file, rows[:, 1:], rows[:, 0])


def read_python(file: Path) -> tuple[Bytes, Bytes]:
    """Pixels (N, 3072) and labels (N,) of a file that Python 2 pickled: a dictionary with `data` and `labels`."""
    try:
        with file.open("rb") as stream:
            # Python 2 did not tell text from bytes; numpy asks for latin1, which keeps every byte.
            content = ArrayUnpickler(stream, encoding="latin1").load()
        pixels, labels = np.asarray(content["data"]), np.asarray(content["labels"])
    except Exception as error:  # a broken pickle may raise anything
        raise _file_error(file, f"{type(error).__name__}: {error}") from error
    if pixels.shape != (PER_FILE, PIXELS) or pixels.dtype != np.uint8:
        raise _file_error(file, f"{pixels.dtype} numbers of shape {pixels.shape}")
    return _check_file(file, pixels, labels)


class ArrayUnpickler(pickle.Unpickler):
    """Rebuilds numbers, texts, lists, dictionaries and numpy arrays of numbers; refuses to name anything else.

    A plain `pickle.load` would run whatever code a file asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy.core.multiarray", "_reconstruct":
                return np.empty(0).__reduce__()[0]
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return np.dtype
            case "_codecs", "encode":  # how Python 3 writes bytes for Python 2
                return _encode_latin
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a data file")


def _encode_latin(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


def _check_file(file: Path, pixels: Bytes, labels: Bytes) -> tuple[Bytes, Bytes]:
    if labels.shape != (PER_FILE,) or labels.min() < 0 or labels.max() >= len(NAMES):
        raise _file_error(file, f"the labels are not {PER_FILE:,} numbers from 0 to {len(NAMES) - 1}")
    return pixels, labels


def _file_error(file: Path, why: str) -> UserError:
    return UserError(f"{file} is not the official file ({why}): delete {file.parent} and start again to download it")


def _stack_examples(parts: Iterable[tuple[Bytes, Bytes]], *, files: int = 5) -> Examples:
    """The images of so many files, which are let go one by one: the whole set stands in memory once."""
    images = torch.empty(files * PER_FILE, 3, 32, 32, dtype=torch.uint8, memory_format=torch.channels_last)
    labels = torch.empty(files * PER_FILE, dtype=torch.long)
    for number, (pixels, classes) in enumerate(parts):
        place = slice(number * PER_FILE, (number + 1) * PER_FILE)
        images[place] = torch.from_numpy(pixels).view(-1, 3, 32, 32)
        labels[place] = torch.from_numpy(classes.astype(np.int64))
    return Examples(images, labels)
