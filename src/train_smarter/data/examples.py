"""Containers of examples, and the names of the splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Examples:
    """Inputs and labels, side by side.

    inputs: uint8 images (N, C, H, W), integer tokens (N, T), or raw texts (a list of N strings) before `encode`.
    labels: int64 (N,), from 0 to K - 1.
    """

    inputs: Any
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Examples":
        """The examples at `index` (n,), in its order."""
        texts = isinstance(self.inputs, list)
        inputs = [self.inputs[i] for i in index.tolist()] if texts else index_rows(self.inputs, index)
        return Examples(inputs, self.labels[index])

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(part.nbytes for part in (self.inputs, self.labels))

    def to(self, device: torch.device) -> "Examples":
        """The same on another device."""
        return Examples(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True)
class RawDataset:
    """What a data set's file reads: its official splits (None: none exists, it is cut from train) and class names."""

    names: Sequence[str]
    train: Examples
    val: Examples | None = None
    test: Examples | None = None


@dataclass(frozen=True)
class RawInput:
    """One input of a user's own, read.

    told: what names it in a table of predictions, by column.
    content: as `read` returns it, a uint8 image (C, H, W) or a text.
    changes: what had to be done to it, for example "scaled to 28x28".
    """

    id_columns: dict[str, Any]
    content: Any
    conversions: Sequence[str] = ()


def index_rows(tensor: Tensor, index: Tensor) -> Tensor:
    """tensor[index], in the same memory layout; on a CPU it takes a tenth of the time. index: (n,) int64."""
    if tensor.ndim == 4:  # images, whose pixels lie channels last
        return tensor.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return tensor.index_select(0, index)
