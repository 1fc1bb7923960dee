"""From rows of a user's files to the raw examples of each split."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from train_smarter.data.base import Data
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.table_source import SplitTable
from train_smarter.data.target_columns import Targets
from train_smarter.errors import UserError


def make_dataset(
    data: Data, found: SplitTable, targets: Targets, kept: Any, inputs: torch.Tensor | Sequence[str], notes: list[str]
) -> RawDataset:
    """The examples by split: those of official splits, or of a column, and the rest as train.

    Args:
        data: for the sizes of what is cut by time.
        targets: of M rows.
        kept: places (n,) in these rows of those that have an input.
        inputs: n of them.
        notes: lines for the log, to which this adds.
    """
    targets = replace(targets, rows=targets.rows[kept], values=None if targets.values is None else targets.values[kept])
    found.check_classes(targets)
    if found.source.time:
        if data.fold is not None:
            raise UserError("data.fold and data.time exclude each other: a fold is drawn at random")
        found = found.cut_by_time(targets.rows, test_fraction=data.test_fraction, val_fraction=data.val_fraction)
    values = None if targets.values is None else torch.from_numpy(targets.values)
    values = values.float() if values is not None and targets.kind != "classes" else values
    examples = Examples(inputs, values)
    parts = {split: torch.from_numpy(found.rows_of(split, targets.rows)) for split in ("train", "val", "test")}
    taken = {split: examples.take(index) if len(index) else None for split, index in parts.items()}
    train = taken["train"] or examples.take(parts["train"])
    groups = found.groups(targets.rows)
    notes += found.notes
    return RawDataset(
        targets.names,
        train,
        taken["val"],
        taken["test"],
        groups=None if groups is None else torch.from_numpy(groups)[parts["train"]],
    )
