"""How many examples each class has in each split."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from train_smarter.data.examples import Examples, SplitName

log = logging.getLogger(__name__)
SHOWN = 5  # names in a line of the log


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
