"""Rows of one size in a file, read a batch at a time."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.rows import StoredRows
from train_smarter.errors import UserError

HAS_PREADV = hasattr(os, "preadv")
HAS_FADVISE = hasattr(os, "posix_fadvise")


class RowFile:
    """A file of `count` rows of bytes, open for reading.

    Read by `preadv`, and not mapped: a file that shrinks raises an exception instead of SIGBUS, and pages of the file
    do not count as memory of the process.

    Args:
        shape: of a row.

    Raises:
        UserError: the file has another size.
    """

    def __init__(self, path: Path, *, count: int, shape: tuple[int, ...]) -> None:
        self.path, self.count, self.shape = path, count, shape
        self.row_bytes = int(np.prod(shape, dtype=np.int64))
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        self.descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        if (size := os.fstat(self.descriptor).st_size) != self.count * self.row_bytes:
            raise UserError(
                f"{self.path} has {size:,} bytes instead of {self.count * self.row_bytes:,}: delete it, and it is made "
                "again"
            )

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "count": self.count, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RowFile.__init__(self, **state)

    def read(self, places: Tensor) -> Tensor:
        """The rows at `places` (n,), (n, ...) uint8.

        Raises:
            UserError: they cannot be read.
        """
        rows = torch.empty((len(places), *self.shape), dtype=torch.uint8)
        buffer, size = rows.view(-1).numpy().data, self.row_bytes
        try:
            for first, place, count in _runs(places):
                self._fill(buffer[first * size : (first + count) * size], place * size)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}; check its disk") from error
        return rows

    def _fill(self, buffer: memoryview, offset: int) -> None:
        while len(buffer):  # one call reads at most 2 GB
            got = os.preadv(self.descriptor, [buffer], offset) if HAS_PREADV else self._seek_and_read(buffer, offset)
            if not got:
                raise UserError(f"{self.path} ends too early: it was changed; start again, and it is checked")
            buffer, offset = buffer[got:], offset + got

    def _seek_and_read(self, buffer: memoryview, offset: int) -> int:
        """For Windows, whose processes do not share the position in the file."""
        with self._lock:
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            content = os.read(self.descriptor, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def prefetch(self, places: Tensor) -> None:
        """Have the system read the rows at `places` (n,) into its page cache; return at once."""
        for place in places.tolist() if HAS_FADVISE else ():
            if not self._is_cached(place * self.row_bytes):
                os.posix_fadvise(self.descriptor, place * self.row_bytes, self.row_bytes, os.POSIX_FADV_WILLNEED)

    def _is_cached(self, offset: int) -> bool:
        """Whether the first byte of a row is in the page cache; it takes a tenth of the time of an advice."""
        try:
            return os.preadv(self.descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except (AttributeError, OSError):  # not on this system; not in the cache
            return False


def _runs(places: Tensor) -> Iterator[tuple[int, int, int]]:
    """Consecutive places as (position in `places`, first place, count)."""
    numbers = places.numpy()
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    return zip(starts.tolist(), numbers[starts].tolist(), np.diff(starts, append=len(numbers)).tolist(), strict=True)


class DiskRows(StoredRows):
    """Rows of a file."""

    def __init__(self, file: RowFile) -> None:
        super().__init__((file.count, *file.shape))
        self.file = file

    def read_stored(self, places: Tensor) -> Tensor:
        return self.file.read(places)

    def prefetch(self, index: Tensor) -> None:
        self.file.prefetch(self.index[index])
