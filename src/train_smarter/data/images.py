"""Your own images: a folder for each class."""

import logging
from typing import Any

import torch

from train_smarter.data.base import data_dir
from train_smarter.data.class_folders import FileExamples, ImageListing, list_folder
from train_smarter.data.decoders import ImageDecoder
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.file_storage import FileStorage, StoredFiles
from train_smarter.data.image_data import ImageData
from train_smarter.data.storage import CACHES
from train_smarter.errors import UserError

log = logging.getLogger(__name__)


class ImageFolder(ImageData):
    """Photos or drawings of any size and kind, in `dir/<class>/` or in `dir/{train,val,test}/<class>/`.

    What lacks a folder of its own, validation or test, is cut from train. Each image takes `size` x `size` x 3 bytes:
    12 KB at 64, 150 KB at 224. Broken files are named in the log and left out.

    Args:
        dir: holds the folders.
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
        dir: str,  # noqa: A002
        size: int = 64,
        crop: int | None = None,
        cache: str | None = None,
        cache_dir: str = "data/cache",
        **data: Any,
    ) -> None:
        super().__init__(**data)
        if cache not in (None, *CACHES):
            raise UserError(f"data.cache={cache}: give {', '.join(CACHES)}, or null: chosen by size")
        if crop is not None and crop > size:
            raise UserError(f"data.crop={crop} is larger than data.size={size}: give at most {size}, or a larger size")
        self.dir, self.size, self.cache, self.cache_dir = data_dir(dir), size, cache, data_dir(cache_dir)
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
            log.warning("%s: files that are no known images, by kind: %s", self.dir, found.ignored)
        (images,) = storage.open()
        splits = {split: _examples(files, images) for split, files in found.splits.items()}
        counts = splits["train"].targets.bincount(minlength=len(found.names)).tolist()
        if empty := [name for name, count in zip(found.names, counts, strict=True) if not count]:
            raise UserError(f"{self.dir}: not one image of {empty} can be read; the log names the broken files")
        return RawDataset(found.names, splits["train"], splits.get("val"), splits.get("test"))

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "size": self.size, "resize": self.resize}

    def _storage(self) -> tuple[ImageListing, FileStorage]:
        """Which files there are, and where they are held; settled once."""
        if self._files is None:
            found = list_folder(self.dir)
            files = [file for examples in found.splits.values() for file in examples.files]
            self._files = (
                found,
                FileStorage(
                    [(files, ImageDecoder(self.size, self.size, resize=self.resize))],
                    root=self.dir,
                    folder=self.cache_dir,
                    given=self.cache,
                    copies=self.trainer.num_devices if self.trainer else 1,
                    writable=self.may_download,
                ),
            )
        return self._files


def _examples(found: FileExamples, images: StoredFiles) -> Examples:
    whole = [place for place, file in enumerate(found.files) if file not in images.broken]
    labels = torch.tensor([found.targets[place] for place in whole], dtype=torch.long)
    return Examples(images.take([found.files[place] for place in whole]), labels)
