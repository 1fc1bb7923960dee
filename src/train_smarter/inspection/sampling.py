"""Read a split in pieces, and only a part of it where all of it would take long."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from train_smarter.data.examples import Batch, Examples, first_tensor
from train_smarter.data.rows import Rows

PIECE_BYTES = 4_000_000  # read at a time
MAX_SLOW = 500  # examples of a split that are decoded


@dataclass(frozen=True)
class Sample:
    """Some examples of a split, evenly spaced, or all of them.

    Attributes:
        examples: the whole split.
        index: (n,) int64, ascending, those that are read.
    """

    examples: Examples
    index: Tensor

    @property
    def is_whole(self) -> bool:
        return len(self.index) == len(self.examples)

    def pieces(self) -> Iterator[Batch]:
        """Inputs and targets as tensors on the CPU, in the order of `index`."""
        rows = max(1, PIECE_BYTES // _row_bytes(self.examples))
        for index in self.index.split(rows):
            yield self.examples.read(index)


def take_sample(examples: Examples, max_bytes: int) -> Sample:
    """Choose as many examples as take at most `max_bytes`, and few where each has to be decoded."""
    most = max(1, max_bytes // _row_bytes(examples))
    if any(part.slow for part in tree_leaves((examples.inputs, examples.targets)) if isinstance(part, Rows)):
        most = min(most, MAX_SLOW)
    count = len(examples)
    return Sample(examples, torch.arange(0, count, max(1, -(-count // most))))


def _row_bytes(examples: Examples) -> int:
    return max(1, examples.bytes // max(1, len(examples)))


def place_of(examples: Examples) -> str:
    """Where the examples of a split are: in memory, on a device, on the disk, or nowhere before they are read."""
    part = first_tensor(examples.inputs)
    if not isinstance(part, Rows):
        return "memory" if part.device.type == "cpu" else str(part.device)
    if part.slow:
        return "read when needed"
    held = any(isinstance(value, Tensor) for name, value in vars(part).items() if name != "index")
    return "memory" if held else "disk"


def name_of(split: str, examples: Examples, index: int) -> str:
    """An example for a person: its split and index, and its file where it has one."""
    for part in tree_leaves(examples.inputs):
        if isinstance(part, Rows) and (files := getattr(part, "files", None)) is not None:
            return f"{split} {index} ({files[int(part.index[index])]})"
    return f"{split} {index}"
