"""Examples that are not a tensor in memory: read from a file, or made, a batch at a time."""

from copy import copy
from typing import Any, Self

import torch
from torch import Tensor


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
            epoch: changes the random numbers of what is read at random.

        Returns:
            A tensor (n, ...), images channels last, or a dict or tuple of such tensors.

        Raises:
            UserError: an example cannot be read; the message names its file.
        """
        return self.read_at(self.index if index is None else self.index[index.cpu()], epoch=epoch)

    def read_at(self, places: Tensor, *, epoch: int) -> Any:
        """Read a batch from these places (n,) of the storage."""
        raise NotImplementedError
