"""Cut a piece off a data set: in proportion, at random, or by groups."""

import numpy as np
import torch
from torch import Tensor


def stratified_split(labels: Tensor, fraction: float, *, seed: int, fold: int = 0) -> tuple[Tensor, Tensor]:
    """Cuts `fraction` of every class off.

    Args:
        labels: (N,) int64.
        fraction: share that is cut off, between 0 and 1.
        seed: fixes the shuffle within each class.
        fold: which piece is cut: fold f of a class starts at the fraction f * `fraction` of its shuffled examples,
            so the folds 0 to 1 / fraction - 1 are disjoint and together cover everything.

    Returns:
        Indices of the rest and of the piece, each ascending.
    """
    generator = np.random.default_rng(seed)
    piece = np.zeros(len(labels), dtype=bool)
    for label in labels.unique().tolist():
        members = generator.permutation(np.flatnonzero(labels.numpy() == label))
        start, stop = (round(len(members) * fraction * f) for f in (fold, fold + 1))
        piece[members[start:stop]] = True
    return torch.from_numpy(np.flatnonzero(~piece)), torch.from_numpy(np.flatnonzero(piece))


def random_split(count: int, fraction: float, *, seed: int, fold: int = 0) -> tuple[Tensor, Tensor]:
    """Cut `fraction` of `count` examples off; see `stratified_split`."""
    return stratified_split(torch.zeros(count, dtype=torch.long), fraction, seed=seed, fold=fold)


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
