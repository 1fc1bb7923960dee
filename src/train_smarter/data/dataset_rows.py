"""The items of a map-style Dataset as rows."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from torch.utils.data import default_collate

from train_smarter.data.rows import Rows, empty_batch
from train_smarter.errors import UserError


class ItemReader:
    """Reads batches of items. An item has several parts, which are rows of their own: each item is read once for all.

    Args:
        dataset: for training; eval_dataset: for the rest.
    """

    def __init__(self, dataset: Any, eval_dataset: Any) -> None:
        self.dataset, self.eval_dataset = dataset, eval_dataset
        self._last: tuple[Tensor, int, list[Tensor]] | None = None

    def read(self, places: Tensor, epoch: int) -> list[Tensor]:
        """The parts of a batch."""
        if self._last is not None and self._last[1] == epoch and self._last[0].equal(places):
            return self._last[2]
        with restore_globals():
            items = [self.item(place, epoch) for place in places.tolist()]
        try:
            parts = [_channels_last(part) for part in tree_flatten(default_collate(items))[0]]
        except (RuntimeError, TypeError) as error:
            raise UserError(
                f"items of {type(self.dataset).__name__} make no batch: {str(error).splitlines()[0]}; its transforms "
                "have to return tensors of one shape, for example by v2.Resize and v2.PILToTensor"
            ) from error
        self._last = places, epoch, parts
        return parts

    def item(self, place: int, epoch: int) -> Any:
        """An item; what it draws depends on the place and the epoch alone."""
        seed_globals(epoch, place)
        try:
            return (self.dataset if epoch else self.eval_dataset)[place]
        except Exception as error:
            error.add_note(f"item {place} of {type(self.dataset).__name__}")
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None}


class DatasetRows(Rows):
    """A part of the items of a Dataset.

    Args:
        part: its number; example: of the first item.
    """

    slow = True

    def __init__(self, reader: ItemReader, part: int, example: Tensor) -> None:
        super().__init__(tuple(example.shape[1:]), example.dtype, torch.arange(len(reader.dataset)))
        self.reader, self.part = reader, part

    def read_at(self, places: Tensor, *, epoch: int) -> Tensor:
        return self.reader.read(places, epoch)[self.part]


def rows_of_dataset(dataset: Any, eval_dataset: Any = None) -> tuple[Any, Any]:
    """The inputs and the targets of a map-style Dataset; the first item decides what they are.

    Raises:
        UserError: it has no items, no length, or items that are not tensors.
    """
    evaluated = dataset if eval_dataset is None else eval_dataset
    count, same = _length(dataset), _length(evaluated)
    if count != same:
        raise UserError(f"from_dataset: {count} items, but eval_dataset has {same}: give the same items")
    if not count:
        raise UserError(f"from_dataset: {type(dataset).__name__} has no items")
    reader = ItemReader(dataset, evaluated)
    with restore_globals():
        item = as_batch(reader.item(0, epoch=0), dataset)
    examples, structure = tree_flatten(item)
    rows = tree_unflatten([DatasetRows(reader, part, example) for part, example in enumerate(examples)], structure)
    return (rows[0], rows[1]) if _is_pair(structure) else (rows, None)


def as_batch(item: Any, dataset: Any) -> Any:
    """An item as a batch of one."""
    name = type(dataset).__name__
    try:
        batch = default_collate([item])
    except TypeError as error:
        raise UserError(
            f"an item of {name} holds something that makes no batch: {str(error).splitlines()[0]}; convert it in the "
            "Dataset's transforms, an image by v2.PILToTensor()"
        ) from error
    if others := [type(leaf).__name__ for leaf in tree_flatten(batch)[0] if not isinstance(leaf, Tensor)]:
        raise UserError(f"an item of {name} holds a {others[0]}, which is no tensor: convert it in the Dataset")
    return batch


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError as error:
        raise UserError(
            f"from_dataset needs a map-style Dataset, with __len__ and __getitem__, and {type(dataset).__name__} is "
            "none; an IterableDataset trains through a LightningDataModule of your own: see docs/guide.md"
        ) from error


def _is_pair(structure: TreeSpec) -> bool:
    """Whether an item is (input, target)."""
    return structure.type in (tuple, list) and structure.num_children == 2


def _channels_last(part: Tensor) -> Tensor:
    """Images as convolutions read them fastest."""
    if part.ndim != 4 or part.is_contiguous(memory_format=torch.channels_last):
        return part
    count, channels, height, width = part.shape
    return empty_batch((count, height, width, channels), part.dtype).permute(0, 3, 1, 2).copy_(part)


def seed_globals(*seeds: int) -> None:
    """Seed the generators that transforms draw from: torch's, NumPy's and Python's."""
    words = np.random.SeedSequence(seeds).generate_state(2, np.uint64).tolist()
    torch.default_generator.manual_seed(words[0])
    np.random.seed(words[1] & 0xFFFFFFFF)
    random.seed(words[1])


@contextmanager
def restore_globals() -> Iterator[None]:
    """Restore these generators at the end.

    Else items that the main process reads would change the numbers of dropout, and items that a worker reads not.
    """
    states = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
