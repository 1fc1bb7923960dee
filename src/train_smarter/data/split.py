"""Cut a piece off a data set: in proportion, or by groups."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def stratified_split(labels: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Cut `fraction` of the examples off, and of every class as near to it as the total allows.

    Each class is rounded. If the total is then off by more than an example, those classes have one more or less that
    rounding moved the furthest from it. The last example of a class always stays.

    Args:
        labels: (N,) int64.
        fraction: share that is cut off, between 0 and 1.
        seed: fixes the shuffle within each class.

    Returns:
        Indices of the rest and of the piece, each ascending.
    """
    sizes = labels.unique(return_counts=True)[1].numpy()
    shares = sizes * fraction
    counts = np.minimum(np.rint(shares), sizes - 1).astype(int)
    if abs(counts.sum() - len(labels) * fraction) > 1:
        step = 1 if counts.sum() < len(labels) * fraction else -1
        movable = counts < sizes - 1 if step > 0 else counts > 0
        order = np.argsort(step * (counts - shares), kind="stable")
        counts[order[movable[order]][: abs(round(len(labels) * fraction) - counts.sum())]] += step
    return _take_within_classes(labels, np.zeros_like(counts), counts, seed=seed)


def stratified_fold(labels: Tensor, folds: int, *, fold: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cut one of `folds` disjoint pieces off, which together cover everything; see `stratified_split`.

    The examples, class after class, are dealt to the folds in turn, as cards are. So two folds differ by one example at
    most, in total and of each class.
    """
    ends = labels.unique(return_counts=True)[1].numpy().cumsum()
    starts = np.concatenate([[0], ends[:-1]])

    def dealt(pieces: int) -> Any:
        """How many examples of each class go to the first `pieces` folds."""
        first = [np.ceil(np.maximum(0, (edge - np.arange(pieces)[:, None]) / folds)).sum(0) for edge in (ends, starts)]
        return (first[0] - first[1]).astype(int)

    return _take_within_classes(labels, dealt(fold), dealt(fold + 1), seed=seed)


def _take_within_classes(labels: Tensor, start: Any, stop: Any, *, seed: int) -> tuple[Tensor, Tensor]:
    """Of the shuffled examples of each class (K,), the piece from `start` (K,) to `stop` (K,), and the rest."""
    generator = np.random.default_rng(seed)
    piece = np.zeros(len(labels), dtype=bool)
    for label, low, high in zip(labels.unique().tolist(), start, stop, strict=True):
        members = generator.permutation(np.flatnonzero(labels.numpy() == label))
        piece[members[low:high]] = True
    return torch.from_numpy(np.flatnonzero(~piece)), torch.from_numpy(np.flatnonzero(piece))


def group_split(groups: Tensor, fraction: float, *, seed: int, fold: int = 0) -> tuple[Tensor, Tensor]:
    """Cut groups off that together hold about `fraction` of the examples; no group is divided.

    Args:
        groups: (N,) int64, the group of each example.
    """
    _, group, sizes = groups.unique(return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    middle = np.cumsum(sizes.numpy()[order]) - sizes.numpy()[order] / 2  # of each group, in shuffled order
    low, high = (len(groups) * fraction * f for f in (fold, fold + 1))
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[order[(middle >= low) & (middle < high)]] = True
    piece = chosen[group.numpy()]
    return torch.from_numpy(np.flatnonzero(~piece)), torch.from_numpy(np.flatnonzero(piece))


def is_classes(targets: Any) -> bool:
    """Whether targets are one class an example: integers (N,)."""
    return isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()


def class_counts(targets: Any, num_classes: int | None) -> list[int]:
    """Examples of each class; empty where the targets are no classes."""
    if num_classes is None or not is_classes(targets):
        return []
    counts: list[int] = targets.bincount(minlength=num_classes).tolist()
    return counts if len(counts) == num_classes else []
