"""Your own images, with classes by their folders, with masks, or with the targets of a table."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from train_smarter.data.base import data_dir
from train_smarter.data.decoders import Decoder, ImageDecoder
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.file_storage import FileStorage, StoredFiles
from train_smarter.data.image_data import ImageData
from train_smarter.data.image_files import describe_ignored
from train_smarter.data.image_listing import FileExamples, ImageListing
from train_smarter.data.image_source import SOURCE_KEYS, ImageSource
from train_smarter.data.mask_values import MaskDecoder
from train_smarter.data.storage import check_cache
from train_smarter.errors import UserError

log = logging.getLogger(__name__)


class ImageFolder(ImageData):
    """Photos or drawings of any size and kind, and what belongs to each.

    In `dir/<class>/`; with a mask each in `masks`; or named by a table with columns of targets. What lacks a folder, a
    separate file or rows, validation or test, is cut from train. Each image takes `size` x `size` x 3 bytes: 12 KB at
    64, 150 KB at 224. Broken files are named in the log and left out.

    Args:
        data: those of `ImageSource.of`, and of `ImageData`.
        size: height and width in pixels at which images are held.
        crop: height and width in pixels that the model sees, of `shape`, too; None: the whole.
        cache: where the decoded images are held: memory; disk, a file in `cache_dir`, made once; none: files are
            decoded when a batch needs them, by worker processes. None: chosen by size. Batches are the same.
        cache_dir: of the cache files.
    """

    NOT_READ_KEYS = (*ImageData.NOT_READ_KEYS, "_files")

    def __init__(
        self,
        *,
        size: int = 64,
        crop: int | None = None,
        cache: str | None = None,
        cache_dir: str = "data/cache",
        **data: Any,
    ) -> None:
        given = {name: data.pop(name) for name in SOURCE_KEYS if name in data}
        super().__init__(**data)
        for key, pixels in (("size", size), ("crop", crop)):
            if (key, pixels) != ("crop", None) and (type(pixels) is not int or pixels < 1):
                raise UserError(f"data.{key}={pixels}: give a whole number of pixels, at least 1")
        if crop is not None and crop > size:
            raise UserError(f"data.crop={crop} is larger than data.size={size}: give at most {size}, or a larger size")
        self.size, self.cache, self.cache_dir = size, check_cache(cache), data_dir(cache_dir)
        self.source = ImageSource.of({**given, "cache_dir": self.cache_dir, "download": self.may_download})
        self.mask_values: list[int] | None = None
        self._files: tuple[ImageListing, FileStorage] | None = None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.shape[0], self.size, self.size

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self._files = None

    def download(self) -> None:
        """Makes the cache file; the other processes of this machine open it."""
        self._storage()[1].prepare()

    def fingerprint(self) -> list[str]:
        return self._storage()[1].fingerprint

    def read(self) -> RawDataset:
        found, storage = self._storage()
        if found.ignored:
            log.warning("%s: %s", self.source.root, describe_ignored(found.ignored))
        for note in found.notes:
            log.info("%s", note)
        images, *masks = storage.open()
        whole = {split: _whole(examples, images, *masks) for split, examples in found.splits.items()}
        splits = {split: _read(examples, found.kind, images, *masks) for split, examples in whole.items()}
        self._reject_empty_classes(found, splits["train"])
        self.mask_values = None if found.mask_values is None else list(found.mask_values)
        groups = whole["train"].groups
        return RawDataset(
            found.names,
            splits["train"],
            splits.get("val"),
            splits.get("test"),
            groups=None if groups is None else torch.tensor(groups),
        )

    def _reject_empty_classes(self, found: ImageListing, train: Examples) -> None:
        if found.kind != "classes":
            return
        counts = train.targets.bincount(minlength=len(found.names)).tolist()
        if empty := [name for name, count in zip(found.names, counts, strict=True) if not count]:
            raise UserError(f"{self.source.root}: not one image of {empty} can be read; the log names the broken files")

    def preprocess(self) -> dict[str, Any]:
        values = {} if self.mask_values is None else {"mask_values": self.mask_values}
        return {**super().preprocess(), "size": self.size, "resize": self.resize, **values}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        super().load_preprocess(preprocess)
        self.mask_values = preprocess.get("mask_values")

    def _storage(self) -> tuple[ImageListing, FileStorage]:
        """Which files there are, and where they are held; settled once."""
        if self._files is None:
            found = self.source.list(count=self.num_classes, names=self.names, mask_values=self.mask_values)
            parts: list[tuple[Sequence[Path], Decoder]] = [
                (
                    [file for each in found.splits.values() for file in each.files],
                    ImageDecoder(self.size, self.size, resize=self.resize),
                )
            ]
            if found.kind == "masks":
                decoder = MaskDecoder(self.size, self.size, len(found.names), found.mask_values, self.resize)
                parts.append(([mask for each in found.splits.values() for mask in each.targets], decoder))
            self._files = (
                found,
                FileStorage(
                    parts,
                    root=self.source.root,
                    folder=self.cache_dir,
                    given=self.cache,
                    copies=self.trainer.num_devices if self.trainer else 1,
                    writable=self.may_download,
                ),
            )
        return self._files


def _whole(found: FileExamples, images: StoredFiles, masks: StoredFiles | None = None) -> FileExamples:
    """The examples whose files can be decoded."""
    broken = images.broken | (masks.broken if masks else frozenset())
    places = [place for place, file in enumerate(found.files) if file not in broken]
    if masks:
        places = [place for place in places if found.targets[place] not in broken]
    groups = None if found.groups is None else [found.groups[place] for place in places]
    return FileExamples([found.files[place] for place in places], [found.targets[place] for place in places], groups)


def _read(found: FileExamples, kind: str, images: StoredFiles, masks: StoredFiles | None = None) -> Examples:
    inputs = images.take(found.files)
    if masks:
        return Examples(inputs, masks.take(found.targets))
    return Examples(inputs, torch.tensor(found.targets, dtype=torch.long if kind == "classes" else torch.float))
