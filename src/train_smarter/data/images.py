"""Your own images: a folder for each class."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import UnidentifiedImageError
from rich.console import Console
from rich.progress import track
from torch import Tensor

from train_smarter.data.base import data_dir
from train_smarter.data.class_folders import FileExamples, list_folder
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.data.image_io import decode
from train_smarter.errors import UserError

log = logging.getLogger(__name__)


class ImageFolder(ImageData):
    """Photos or drawings of any size and kind, in `dir/<class>/` or in `dir/{train,val,test}/<class>/`.

    What lacks a folder of its own, validation or test, is cut from train. Each image is decoded once and kept at
    `size` x `size` x 3 bytes: 12 KB at 64. Broken files are named in the log and left out.

    Args:
        dir: holds the folders.
        size: height and width in pixels at which images are kept.
        crop: height and width in pixels that the model sees, of `shape`, too; None: the whole.
    """

    def __init__(self, *, dir: str, size: int = 64, crop: int | None = None, **data: Any) -> None:  # noqa: A002
        super().__init__(**data)
        self.dir, self.size = data_dir(dir), size
        if crop is not None and crop > size:
            raise UserError(f"data.crop={crop} is larger than data.size={size}: give at most {size}, or a larger size")

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.shape[0], self.size, self.size

    def read(self) -> RawDataset:
        found = list_folder(self.dir)
        if found.ignored:
            log.warning("%s: files that are no known images, by kind: %s", self.dir, found.ignored)
        splits = {split: self._examples(files) for split, files in found.splits.items()}
        counts = splits["train"].targets.bincount(minlength=len(found.names)).tolist()
        if empty := [name for name, count in zip(found.names, counts, strict=True) if not count]:
            raise UserError(f"{self.dir}: not one image of {empty} can be read; the log names the broken files")
        return RawDataset(found.names, splits["train"], splits.get("val"), splits.get("test"))

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "size": self.size, "resize": self.resize}

    def _examples(self, found: FileExamples) -> Examples:
        images = torch.empty(len(found), 3, self.size, self.size, dtype=torch.uint8)
        whole: list[int] = []
        for place, image in enumerate(self._decoded(found.files)):
            if image is not None:
                images[len(whole)] = image
                whole.append(place)
        labels = torch.tensor(found.targets, dtype=torch.long)
        return Examples(images[: len(whole)], labels[whole])

    def _decoded(self, files: Sequence[Path]) -> Iterator[Tensor | None]:
        """Images (3, size, size) in the order of `files`; None for a broken one."""
        console = Console(stderr=True)
        # Threads, since Pillow decodes and scales outside Python's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = pool.map(partial(_decode_or_explain, shape=self.stored_shape, resize=self.resize), files)
            yield from track(
                decoded,
                description="reading images",
                total=len(files),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            )


def _decode_or_explain(file: Path, *, shape: Sequence[int], resize: str) -> Tensor | None:
    try:
        return decode(file, shape=shape, resize=resize)[0]
    except Exception as error:
        why = "not an image" if isinstance(error, UnidentifiedImageError) else error
        log.warning("%s is broken and left out: %s", file, why)
        return None
