"""Examples that are not a tensor for each split: read from a file, or made, a batch at a time."""

import math
from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import get_worker_info

PIECE_BYTES = 2**26  # that are read together on their way to a device


class Rows:
    """N examples that are read a batch at a time: a part of `Examples.inputs` or `.targets`, as a tensor is.

    A piece of them, a split, is a list of indices: nothing is copied. A subclass implements `read_at`.

    Args:
        shape: of one example, as `read` returns it.
        dtype: as `read` returns it.
        index: (N,) int64, where the examples are in the storage.

    Attributes:
        device: where `read` returns them.
        slow: reading takes so long that it belongs into worker processes.
    """

    device = torch.device("cpu")
    slow = False

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, index: Tensor) -> None:
        self.row_shape, self.dtype, self.index = shape, dtype, index

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of a tensor, (N, ...)."""
        return len(self), *self.row_shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """What they would take in memory."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def take(self, index: Tensor) -> Self:
        """The examples at `index` (n,), in its order; nothing is read."""
        piece = copy(self)
        piece.index = self.index[index]
        return piece

    def read(self, index: Tensor | None = None, *, epoch: int = 0) -> Any:
        """Read a batch.

        Args:
            index: (n,) int64; None: all.
            epoch: what is read at random depends on it, and on nothing else; a number that training derives from the
                seed and the epoch. 0: an evaluation, without random transforms.

        Returns:
            A tensor (n, ...), images channels last, or a dict or tuple of such tensors.

        Raises:
            UserError: an example cannot be read; the message names its file.
        """
        return self.read_at(self.index if index is None else self.index[index.cpu()], epoch=epoch)

    def read_at(self, places: Tensor, *, epoch: int) -> Any:
        """Read a batch from these places (n,) of the storage."""
        raise NotImplementedError

    def read_to(self, device: torch.device) -> Any:
        """Read all of them to a device."""
        return tree_map(lambda part: part.to(device), self.read())

    def prefetch(self, index: Tensor) -> None:
        """Ask the system for the examples at `index` (n,), which are read soon; return at once."""


class StoredRows(Rows):
    """Rows that are stored in one piece; images (H, W, C).

    Args:
        stored: the shape of all rows, (N, ...).
    """

    def __init__(self, stored: Sequence[int], dtype: torch.dtype = torch.uint8) -> None:
        row = tuple(stored[1:])
        super().__init__((row[2], row[0], row[1]) if len(row) == 3 else row, dtype, torch.arange(stored[0]))

    def read_at(self, places: Tensor, *, epoch: int) -> Tensor:  # noqa: ARG002 (nothing is random)
        batch = self.read_stored(places)
        return batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch

    def read_stored(self, places: Tensor) -> Tensor:
        """The rows at these places, as they are stored."""
        raise NotImplementedError

    def read_to(self, device: torch.device) -> Tensor:
        """In pieces: the machine may have less memory than the device."""
        pieces = torch.arange(len(self)).split(max(1, PIECE_BYTES * len(self) // max(1, self.nbytes)))
        layout = torch.channels_last if self.ndim == 4 else torch.contiguous_format
        target = torch.empty(self.shape, dtype=self.dtype, device=device, memory_format=layout)
        for piece in pieces:
            target[piece[0] : piece[-1] + 1] = self.read(piece)
        return target


class MemoryRows(StoredRows):
    """Rows of one tensor, which all splits share.

    Args:
        storage: (N, H, W, C), images channels last, or (N, ...).
    """

    def __init__(self, storage: Tensor) -> None:
        super().__init__(storage.shape, storage.dtype)
        self.storage = storage

    def read_stored(self, places: Tensor) -> Tensor:
        return self.storage.index_select(0, places)


def empty_batch(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialized tensor for a batch; in a worker process, in the shared memory in which the batch is sent.

    Otherwise the worker copies the batch there, and its heap fragments: by 500 MB for images of 224 pixels.
    """
    if get_worker_info() is None:
        return torch.empty(tuple(shape), dtype=dtype)
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)  # as torch's default_collate does
    return torch.empty(0, dtype=dtype).set_(storage).view(tuple(shape))
