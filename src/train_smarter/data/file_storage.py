"""Files as rows: in memory, in a cache file, or decoded when they are read."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from train_smarter.data.decode_files import DecodedFiles, decode_to_memory
from train_smarter.data.decoders import Decoder
from train_smarter.data.file_cache import FileCache
from train_smarter.data.file_rows import check_files
from train_smarter.data.rows import Rows
from train_smarter.data.storage import Place, choose_cache, gigabytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredFiles:
    """Rows of files.

    place: of each file among the rows; broken: the files that cannot be decoded.
    """

    rows: Rows
    place: Mapping[Path, int]
    broken: frozenset[Path]

    def take(self, files: Sequence[Path]) -> Rows:
        """The rows of some of the files, in their order."""
        return self.rows.take(torch.tensor([self.place[file] for file in files], dtype=torch.long))


class FileStorage:
    """Files of one or several kinds, images and their masks, that share a place.

    Args:
        parts: files, and what decodes them.
        root: the folder that the files are named from.
        folder: of the cache files.
        given: memory, disk, none, or None: chosen by size.
        copies: processes on this machine that read them.
        writable: a cache file may be made.

    Raises:
        UserError: the given place has too little room.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Sequence[Path], Decoder]],
        *,
        root: Path,
        folder: Path,
        given: str | None = None,
        copies: int = 1,
        writable: bool = True,
    ) -> None:
        self.caches = [
            FileCache.of(folder, sorted(set(files), key=os.fspath), root=root, decoder=decoder)
            for files, decoder in parts
        ]
        self.given, self.folder, self.copies, self.writable = given, folder, copies, writable

    @property
    def fingerprint(self) -> list[str]:
        """What changes when a file or a setting does."""
        return [cache.stem for cache in self.caches]

    @property
    def what(self) -> str:
        """The rows in words."""
        return " and ".join(
            f"{len(cache.files):,} {cache.kind} of {_spell(cache.decoder.shape)}" for cache in self.caches
        )

    @cached_property
    def place(self) -> Place:
        return choose_cache(
            self.given,
            size=sum(cache.size for cache in self.caches),
            missing=sum(cache.missing for cache in self.caches),
            what=self.what,
            folder=self.folder,
            copies=self.copies,
            writable=self.writable,
        )

    def prepare(self) -> None:
        """Make the cache files, if that is the place."""
        if self.place.cache == "disk":
            for cache in self.caches:
                cache.make()

    def open(self) -> list[StoredFiles]:
        """The rows of each part; broken files are named in the log."""
        size, why = gigabytes(sum(cache.size for cache in self.caches)), self.place.why
        log.info("data.cache=%s: %s, %s%s", self.place.cache, self.what, size, why and f" ({why})")
        self.prepare()
        return [self._open(cache) for cache in self.caches]

    def _open(self, cache: FileCache) -> StoredFiles:
        made = cache.ready
        decoded = self._decode(cache)
        for place, why in sorted(decoded.broken.items()):
            log.warning("%s is broken and left out: %s", cache.files[place], why)
        if decoded.broken and self.place.cache == "disk" and made:
            log.info("to try broken files again that have not changed, delete %s", cache.path("json"))
        places = {file: place for place, file in enumerate(cache.files)}
        return StoredFiles(decoded.rows, places, frozenset(cache.files[place] for place in decoded.broken))

    def _decode(self, cache: FileCache) -> DecodedFiles:
        if self.place.cache == "disk":
            return cache.open()
        if self.place.cache == "memory":
            return decode_to_memory(cache.files, cache.decoder)
        return check_files(cache.files, cache.decoder)


def _spell(stored: Sequence[int]) -> str:
    """The shape of a row as it is read, in words."""
    *sizes, channels = stored if len(stored) == 3 else (*stored, "")
    return "x".join(str(size) for size in (channels, *sizes) if size)
