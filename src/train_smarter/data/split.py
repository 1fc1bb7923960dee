"""Cut a piece off a data set, in proportion or by groups, and count what is in it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.examples import Examples, SplitName
from train_smarter.errors import UserError

log = logging.getLogger(__name__)

SHOWN = 5  # names in a line of the log
MAX_NAME = 24  # characters of a name on the screen


def stratified_split(labels: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Cut `fraction` of the examples off, and of every class as near to it as the total allows.

    Each class is rounded. A class of two or more examples has one at least in the piece, as far as the total allows one
    for each. If the total is then off by more than an example, those classes have one more or less that rounding moved
    the furthest from it. The last example of a class always stays.

    Args:
        labels: (N,) int64.
        fraction: share that is cut off, between 0 and 1.
        seed: fixes the shuffle within each class.

    Returns:
        Indices of the rest and of the piece, each ascending.
    """
    sizes = labels.unique(return_counts=True)[1].numpy()
    wanted = len(labels) * fraction
    shares = sizes * fraction
    least = np.minimum(1, sizes - 1) if (sizes > 1).sum() <= wanted + 1 else np.zeros_like(sizes)
    counts = np.clip(np.rint(shares), least, sizes - 1).astype(int)
    while abs(counts.sum() - wanted) > 1:
        step = 1 if counts.sum() < wanted else -1
        movable = counts < np.minimum(sizes - 1, shares + 1) if step > 0 else counts > least
        order = np.argsort(step * (counts - shares), kind="stable")
        chosen = order[movable[order]][: abs(round(wanted) - counts.sum())]
        if not len(chosen):
            break
        counts[chosen] += step
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
    group, order, middle = _shuffle_groups(groups, seed=seed)
    low, high = (len(groups) * fraction * f for f in (fold, fold + 1))
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[(middle >= low) & (middle < high)]] = True
    piece = chosen[group]
    return torch.from_numpy(np.flatnonzero(~piece)), torch.from_numpy(np.flatnonzero(piece))


def _shuffle_groups(groups: Tensor, *, seed: int) -> tuple[Any, Any, Any]:
    """The number of each example's group (N,); the groups in shuffled order (G,); and the middle of each in the row
    of all examples in that order (G,).
    """
    _, group, counts = groups.unique(return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(counts))
    sizes = counts.numpy()[order]
    return group.numpy(), order, np.cumsum(sizes) - sizes / 2


def _explain_empty_groups(
    groups: Tensor, *, seed: int, split: str, fraction: float | None, folds: int = 1
) -> UserError:
    """An error to be raised where whole groups leave a split empty, with a value that does not.

    Args:
        fraction: that was to be cut off; None: one of `folds` pieces was.
    """
    group, order, middle = _shuffle_groups(groups, seed=seed)
    sizes, count = np.bincount(group), len(groups)
    given = f"data.folds={folds}" if fraction is None else f"data.{split}_fraction={fraction:g}"
    problem = f"{given}: no group is divided between splits, and"
    if len(order) == 1:
        return UserError(
            f"{problem} all {count} examples that are left for train and {split} are one group: give data with more "
            "groups; of files of your own, name another column, data.group=..., or none, data.group=null"
        )
    empty = split
    if fraction is None:
        # Two always fit: the middles of the first and the last group are at least half of the examples apart.
        fitting = [n for n in range(2, folds) if len(set((middle * n / count).astype(int).tolist())) == n]
        cure = f"data.folds={fitting[-1]}"
    elif fraction * count <= middle[0]:
        cure = f"data.{split}_fraction={(int(100 * middle[0] / count) + 1) / 100:g}"
    else:
        empty, cure = "train", f"data.{split}_fraction={int(100 * middle[-1] / count) / 100:g}"
    spread = f"{sizes.min()} to {sizes.max()}" if sizes.min() < sizes.max() else f"{sizes[0]}"
    return UserError(
        f"{problem} so {empty} is empty: {count} examples are in {len(order)} groups of {spread} examples; type "
        f"{cure}, or give data with more groups"
    )


@dataclass(frozen=True)
class Rest:
    """What is left of the training examples while splits are cut off."""

    examples: Examples
    strata: Tensor | None
    groups: Tensor | None

    def cut(self, split: SplitName, fraction: float, *, seed: int) -> tuple[Examples, "Rest"]:
        """Return a share of the examples, and what is left.

        Raises:
            UserError: whole groups leave one of the two empty.
        """
        if self.groups is None:
            return self._cut(*stratified_split(self._classes(), fraction, seed=seed))
        parts = group_split(self.groups, fraction, seed=seed)
        if not all(map(len, parts)):
            raise _explain_empty_groups(self.groups, seed=seed, split=split, fraction=fraction)
        return self._cut(*parts)

    def cut_fold(self, folds: int, *, fold: int, seed: int) -> tuple[Examples, "Rest"]:
        """Return one of `folds` pieces, and what is left.

        Raises:
            UserError: whole groups leave one of the two empty.
        """
        if self.groups is None:
            return self._cut(*stratified_fold(self._classes(), folds, fold=fold, seed=seed))
        parts = group_split(self.groups, 1 / folds, seed=seed, fold=fold)
        if not all(map(len, parts)):
            raise _explain_empty_groups(self.groups, seed=seed, split="val", fraction=None, folds=folds)
        return self._cut(*parts)

    def _cut(self, rest: Tensor, piece: Tensor) -> tuple[Examples, "Rest"]:
        strata, groups = (None if part is None else part[rest] for part in (self.strata, self.groups))
        return self.examples.take(piece), Rest(self.examples.take(rest), strata, groups)

    def _classes(self) -> Tensor:
        """What a split keeps in proportion; one class where there are none."""
        if self.strata is not None:
            return self.strata
        targets = self.examples.targets
        return targets if is_classes(targets) else torch.zeros(len(self.examples), dtype=torch.long)


def is_classes(targets: Any) -> bool:
    """Whether targets are one class an example: integers (N,)."""
    return isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()


def class_counts(targets: Any, num_classes: int | None) -> list[int]:
    """Examples of each class; empty where the targets are no classes."""
    if num_classes is None or not is_classes(targets):
        return []
    counts: list[int] = targets.bincount(minlength=num_classes).tolist()
    return counts if len(counts) == num_classes else []


def log_absent_classes(names: Sequence[str], splits: Mapping[SplitName, Examples]) -> None:
    """Warn once of the classes that have no example in a split."""
    parts = []
    for split, examples in splits.items():
        counts = class_counts(examples.targets, len(names))
        absent = [name for name, count in zip(names, counts, strict=False) if not count]
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        parts += [f"{split} of {absent[:SHOWN]}{more}"] if absent else []
    if parts:
        log.warning("no example in %s: their classes have too few for every split", ", ".join(parts))


def describe_counts(per_class: Mapping[str, int]) -> str:
    """Examples per class for the screen: each of up to three classes, or the smallest and the largest."""
    if not per_class:
        return ""
    names = {name: name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..." for name in per_class}
    if len(per_class) <= 3:
        return f": {', '.join(f'{count:,} {names[name]}' for name, count in per_class.items())}"
    least, most = (pick(per_class, key=per_class.__getitem__) for pick in (min, max))
    return (
        f" in {len(per_class):,} classes, {per_class[least]:,} ({names[least]}) "
        f"to {per_class[most]:,} ({names[most]}) each"
    )
