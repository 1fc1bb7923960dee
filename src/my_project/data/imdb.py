"""IMDB's film reviews, negative or positive."""

from collections.abc import Sequence
from typing import Any

import torch

from train_smarter import Examples, RawDataset, TextData, UserError, fetch, unpack

NAMES = ["negative", "positive"]
FOLDERS = ("train/neg", "train/pos", "test/neg", "test/pos")


class IMDB(TextData):
    """50,000 film reviews, half of them for the test; reads the official tree `aclImdb`, or downloads it.

    Source: Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011.

    Args:
        dir: the data folder: holds `aclImdb`, or gets it by a download; the encoded reviews are cached in it, in
            `cache`, which is to be deleted when a review was changed in place: only those that come or go are noticed.
        urls: where aclImdb_v1.tar.gz is found, in the order in which they are tried.
        md5: of that archive.
        files_per_folder: reviews in each of the four folders.
    """

    def __init__(
        self,
        *,
        dir: str,  # noqa: A002
        urls: Sequence[str],
        md5: str,
        files_per_folder: int = 12_500,
        **text: Any,
    ) -> None:
        super().__init__(dir=dir, **text)
        assert self.dir is not None
        self.root, self.archive = self.dir / "aclImdb", self.dir / "aclImdb_v1.tar.gz"
        self.urls, self.md5, self.files_per_folder = urls, md5, files_per_folder

    def download(self) -> None:
        if not self.root.exists():  # else `read` holds it against the official numbers
            unpack(fetch(self.urls, self.archive, md5=self.md5, hint="data=phrases needs no download"), self.root)

    def fingerprint(self) -> Any:
        folders = [self.root / folder for folder in FOLDERS]
        return [[str(folder), folder.stat().st_mtime_ns if folder.exists() else None] for folder in folders]

    def read(self) -> RawDataset:
        labels = torch.tensor([0, 1]).repeat_interleave(self.files_per_folder)
        train, test = (self._reviews(f"{split}/neg") + self._reviews(f"{split}/pos") for split in ("train", "test"))
        return RawDataset(NAMES, Examples(train, labels), test=Examples(test, labels))

    def _reviews(self, folder: str) -> list[str]:
        """The texts of a folder, in the order of the files' names.

        Raises:
            UserError: the folder has not the right number of them.
        """
        files = sorted((self.root / folder).glob("*.txt"))
        if len(files) != self.files_per_folder:
            raise UserError(
                f"{self.root / folder} holds {len(files)} reviews instead of {self.files_per_folder}: "
                f"delete {self.root} and start again to unpack or download it"
            )
        return [file.read_text(encoding="utf-8", errors="replace") for file in files]
