"""Containers of examples, and the names of the splits."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from train_smarter.data.rows import Rows
from train_smarter.errors import UserError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
# A tensor, `Rows`, or a dict, tuple or list of them with the same first dimension; a list of N texts before `encode`.
Tree = Any
Batch = tuple[Tree, Tree]


@dataclass(frozen=True)
class Examples:
    """Inputs and targets, side by side.

    inputs: uint8 images (N, C, H, W), integer tokens (N, T), features (N, D), raw texts (a list of N strings) before
        `encode`, or a dict or tuple of tensors, for example {"image": ..., "table": ...}. In place of a tensor, `Rows`
        are examples that are not in memory.
    targets: as the task needs them: int64 classes (N,) from 0 to K - 1, floats (N, D), masks (N, H, W), ..., or a dict
        or tuple of tensors; None: the input is the target.
    """

    inputs: Tree
    targets: Tree = None

    @classmethod
    def from_dataset(cls, dataset: Any, targets: Tree = None, *, eval_dataset: Any = None) -> "Examples":
        """The items of a map-style `torch.utils.data.Dataset`, read when a batch needs them, by worker processes.

        Args:
            dataset: its items are pairs (input, target), or inputs alone: tensors, arrays, numbers, or dicts and tuples
                of them, of one shape for all items. What its transforms draw from the global generators of torch, NumPy
                and `random` depends on the seed, the epoch and the item alone.
            targets: all targets, where they are known without reading items: they take the place of the items' own, and
                serve class counts, stratified splits and class weights.
            eval_dataset: the same items without random transforms, for all but training; None: `dataset`.
        """
        from train_smarter.data.dataset_rows import rows_of_dataset

        inputs, own = rows_of_dataset(dataset, eval_dataset)
        if targets is None:
            return cls(inputs, own)
        known = torch.as_tensor(targets) if isinstance(targets, Sequence) or hasattr(targets, "__array__") else targets
        if (count := count_rows(known)) != len(dataset):
            raise UserError(f"from_dataset: {len(dataset)} items, but {count} targets")
        return cls(inputs, known)

    def __len__(self) -> int:
        return count_rows(self.inputs)

    def take(self, index: Tensor) -> "Examples":
        """The examples at `index` (n,), in its order; of `Rows`, nothing is read."""
        return Examples(take_rows(self.inputs, index), take_rows(self.targets, index))

    def read(self, index: Tensor, *, epoch: int = 0) -> Batch:
        """The batch at `index` (n,), in its order: tensors, whatever the examples are."""
        return read_rows(self.inputs, index, epoch=epoch), read_rows(self.targets, index, epoch=epoch)

    def prefetch(self, index: Tensor) -> None:
        """Announce that the batch at `index` (n,) is read soon."""
        for part in self.rows:
            part.prefetch(index)

    @property
    def rows(self) -> list[Rows]:
        """The parts that are not tensors."""
        return [part for part in tree_leaves((self.inputs, self.targets)) if isinstance(part, Rows)]

    @property
    def slow(self) -> bool:
        """Whether reading a batch belongs into worker processes."""
        return any(part.slow for part in self.rows)

    @property
    def bytes(self) -> int:
        """Memory that the examples take as tensors."""
        return sum(part.nbytes for part in tree_leaves((self.inputs, self.targets)) if isinstance(part, Tensor | Rows))

    def to(self, device: torch.device) -> "Examples":
        """The same on another device."""
        return Examples(move(self.inputs, device), move(self.targets, device))


@dataclass(frozen=True)
class RawDataset:
    """What a data set's file reads: its official splits (None: none exists, it is cut from train) and names.

    names: of the classes, labels or target columns; empty: they have none.
    strata: (N,) int64 of the training examples: what a split keeps in proportion; None: their classes, if they have.
    groups: (N,) int64 of the training examples: never divided between splits (users, patients); None: each alone.
    """

    names: Sequence[str]
    train: Examples
    val: Examples | None = None
    test: Examples | None = None
    strata: Tensor | None = field(default=None, kw_only=True)
    groups: Tensor | None = field(default=None, kw_only=True)


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


def count_rows(tree: Tree) -> int:
    """N of a tensor, a list of texts, or of the tensors in a dict or tuple."""
    return len(tree) if isinstance(tree, Tensor | Rows) or is_texts(tree) else len(first_tensor(tree))


def first_tensor(tree: Tree) -> Tensor | Rows:
    """The tensor itself, or the first one in a dict or tuple; `Rows` stand for a tensor."""
    if isinstance(tree, Tensor | Rows):
        return tree
    return next(part for part in tree_leaves(tree) if isinstance(part, Tensor | Rows))


def is_texts(tree: Tree) -> bool:
    return isinstance(tree, list) and (not tree or isinstance(tree[0], str))


def take_rows(tree: Tree, index: Tensor) -> Tree:
    """The rows at `index` (n,) of every tensor, or of a list of texts; of `Rows`, nothing is read."""
    if isinstance(tree, Tensor):
        return index_rows(tree, index)
    if is_texts(tree):
        return [tree[i] for i in index.tolist()]
    return _map_parts(lambda part: index_rows(part, index) if isinstance(part, Tensor) else part.take(index), tree)


def read_rows(tree: Tree, index: Tensor, *, epoch: int = 0) -> Tree:
    """The rows at `index` (n,) as tensors."""
    if isinstance(tree, Tensor):
        return index_rows(tree, index)
    return _map_parts(
        lambda part: index_rows(part, index) if isinstance(part, Tensor) else part.read(index, epoch=epoch), tree
    )


def split_rows(tree: Tree, size: int) -> Iterator[Tree]:
    """Consecutive pieces of at most `size` rows, as tensors."""
    for start in range(0, count := count_rows(tree), size):
        stop = min(start + size, count)
        yield _map_parts(
            lambda part: part[start:stop] if isinstance(part, Tensor) else part.read(torch.arange(start, stop)),  # noqa: B023 (used before the next start)
            tree,
        )


def join(first: Examples, second: Examples) -> Examples:
    """The examples of both, one after the other.

    Raises:
        UserError: they are read from files, which each split has for itself.
    """
    if first.rows or second.rows:
        raise UserError(
            "data.refit=true: validation has its own files, which are not joined with those of train: name them as "
            "training files, and keep data.refit=false"
        )
    parts = [
        one + other if is_texts(one) else tree_map(lambda *tensors: torch.cat(tensors), one, other)
        for one, other in ((first.inputs, second.inputs), (first.targets, second.targets))
        if one is not None
    ]
    return Examples(*parts)


def move(tree: Tree, device: torch.device, *, non_blocking: bool = False) -> Tree:
    """Every tensor on a device; `Rows` are read."""
    if isinstance(tree, Tensor):
        return tree.to(device, non_blocking=non_blocking)

    def moved(part: Tensor | Rows) -> Tree:
        if isinstance(part, Tensor):
            return part.to(device, non_blocking=non_blocking)
        return part.read_to(device)

    return _map_parts(moved, tree)


def map_tensors(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """The tree with `function` applied to every tensor; None and numbers stay as they are."""
    if isinstance(tree, Tensor):
        return function(tree)
    return tree_map(lambda part: function(part) if isinstance(part, Tensor) else part, tree)


def _map_parts(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """The tree with `function` applied to every tensor and to all `Rows`."""
    return tree_map(lambda part: function(part) if isinstance(part, Tensor | Rows) else part, tree)


def spread(length: int, count: int) -> Tensor:
    """At most `count` of the indices 0 to length - 1, spread evenly."""
    count = min(count, length)
    return torch.arange(count) * length // max(1, count)


def index_rows(tensor: Tensor, index: Tensor) -> Tensor:
    """tensor[index], in the same memory layout; on a CPU it takes a tenth of the time. index: (n,) int64."""
    if tensor.ndim == 4:  # images, whose pixels lie channels last
        return tensor.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return tensor.index_select(0, index)
