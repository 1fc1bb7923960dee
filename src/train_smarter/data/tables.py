"""Your own table: a file with a row an example."""

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.base import Data
from train_smarter.data.cells import LARGEST, NUMBER
from train_smarter.data.examples import Batch, Examples, RawDataset, RawInput, SplitName
from train_smarter.data.table_columns import (
    Column,
    ColumnChoice,
    choose_columns,
    index_categories,
    learn_column,
    read_columns,
)
from train_smarter.data.table_data import TableRow
from train_smarter.data.table_dataset import make_dataset
from train_smarter.data.table_file import read_table, shorten
from train_smarter.data.table_source import SplitTable, as_names, left_out_note, pop_source
from train_smarter.errors import UserError

log = logging.getLogger(__name__)

MISSING = ("mean", "drop", "error")


class TableFile(Data):
    """Rows of numbers and categories.

    Examples are float rows (N, C), one number a column: a number as it is in the file, a category as its index in
    `columns`, -1 for an unknown one, NaN where a cell is missing. A model receives (N, D): each number standardized,
    each category one-hot, and 1 or 0 for whether the cell is missing, where one was in training.

    Args:
        data: those of `TableSource` and of `Data`.
        columns: names of those that are used; empty: all but the target and those that `choose_columns` leaves out.
        ignore: names of those that are not used.
        categories: names of columns of numbers that are categories.
        max_categories: one-hot numbers of a category at most, for the most frequent texts; others are zeros.
        missing: mean: a missing number is replaced by the mean of training; drop: rows with a missing cell are left
            out; error.
        shape: [D], compared with the data in `setup`; None: it is not.
        standardize: False: a model receives the numbers as they are.
    """

    kind = "rows"
    NOT_READ_KEYS: tuple[str, ...] = (*Data.NOT_READ_KEYS, "_constants")
    waiting: ClassVar[tuple[str, dict[str, Any]] | None] = None  # what `count_numbers` has read, by `key`

    def __init__(
        self,
        *,
        columns: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
        max_categories: int = 100,
        missing: str = "mean",
        shape: Sequence[int] | None = None,
        standardize: bool = True,
        **data: Any,
    ) -> None:
        self.source, self.notes = pop_source(data), list[str]()
        super().__init__(**data)
        if missing not in MISSING:
            raise UserError(f"data.missing={missing}: give one of {', '.join(MISSING)}")
        if max_categories < 1:
            raise UserError(f"data.max_categories={max_categories} must be at least 1")
        self.used, self.ignored, self.categories = as_names(columns), as_names(ignore), as_names(categories)
        self.max_categories, self.missing = max_categories, missing
        self.shape, self.standardize = None if shape is None else tuple(shape), standardize
        self.columns: list[Column] = []  # from setup or load_preprocess on
        self._choice = ColumnChoice([], set())
        self._texts: dict[str, list[str]] = {}  # of the categories, by their codes in what was read
        self._constants: dict[tuple[torch.device, torch.dtype], dict[str, Any]] = {}

    @property
    def width(self) -> int:
        """D, the numbers that a model receives."""
        return sum(column.width for column in self.columns)

    # ---- what a run records

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "columns": [asdict(column) for column in self.columns]}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        super().load_preprocess(preprocess)
        self.columns = _parse_columns(preprocess)
        self._check_width()

    def adopt_inputs(self, preprocess: dict[str, Any]) -> None:
        """The columns as a checkpoint knows them, where they have the same names."""
        known = _parse_columns(preprocess)
        if [column.name for column in known] != [column.name for column in self.columns] and self.columns:
            return  # the first layer starts afresh
        if self.examples and known != self.columns:
            raise UserError(
                f"the checkpoint was trained on other rows of {self.source.file}: the file has changed; start again"
            )
        if self.shape is None or self.shape == (sum(column.width for column in known),):
            self.columns = known

    def _check_width(self) -> None:
        if self.shape is not None and self.shape != (self.width,):
            raise UserError(f"data.shape={list(self.shape)}, but the columns have {self.width} numbers an example")

    # ---- reading

    def load(self) -> None:
        """Reads, or takes what `count_numbers` has just read."""
        key, waiting = self.key(), TableFile.waiting
        TableFile.waiting = None
        if waiting is None or waiting[0] != key:
            super().load()
        else:
            vars(self).update(waiting[1])

    def key(self) -> str:
        """Changes when anything does that reading depends on."""
        left_out = ("shape", "num_classes", "num_targets", *self.NOT_READ_KEYS)
        settings = {name: value for name, value in vars(self).items() if name not in left_out and name[:1] != "_"}
        return json.dumps([type(self).__qualname__, settings, self.source.stamp()], default=str, sort_keys=True)

    def read(self) -> RawDataset:
        found = self.source.read()
        self.notes.append(found.table.describe())
        choice = self._choice = self._choose(found)
        targets = self.source.read_targets(found.table, self.names)
        self.notes += left_out_note(found.table, targets.rows, self.source.target, "a target")
        matrix, self._texts = read_columns(
            found.table,
            choice.names,
            choice.categories,
            na_values=self.source.na_values,
            decimal_comma=self.source.decimal_comma,
        )
        kept = self._rows_with_all(found, matrix, choice.names, targets.rows)
        inputs = torch.from_numpy(matrix[targets.rows[kept]])
        return make_dataset(self, found, targets, kept, inputs, self.notes)

    def _choose(self, found: SplitTable) -> ColumnChoice:
        if self.columns:  # of the run that is gone back to
            names = [column.name for column in self.columns]
            found.table.require(names, "data.columns")
            return ColumnChoice(names, {column.name for column in self.columns if column.values is not None})
        choice = choose_columns(
            found.table,
            roles=self.source.role_columns,
            columns=self.used,
            ignore=self.ignored,
            categories=self.categories,
            na_values=self.source.na_values,
            decimal_comma=self.source.decimal_comma,
        )
        self.notes += choice.notes
        return choice

    def _rows_with_all(self, found: SplitTable, matrix: Any, names: Sequence[str], rows: Any) -> Any:
        """The places in `rows` (M,) of those without a missing cell, unless missing ones are filled."""
        missing = np.isnan(matrix[rows])
        if not missing.any() or self.missing == "mean":
            counts = {name: int(count) for name, count in zip(names, missing.sum(0), strict=True) if count}
            if counts:
                spelled = [f"{name} {count}" for name, count in counts.items()]
                self.notes.append(f"missing cells: {shorten(spelled)}; data.missing=drop leaves their rows out")
            return np.arange(len(rows))
        first = int(np.flatnonzero(missing.any(1))[0])
        if self.missing == "error":
            column = names[int(missing[first].argmax())]
            raise found.table.error(
                int(rows[first]), column, "this cell is missing; type data.missing=mean or data.missing=drop"
            )
        kept = np.flatnonzero(~missing.any(1))
        if not len(kept):
            raise UserError(f"data.missing=drop: every row of {found.table.where} has a missing cell")
        where = found.table.place(int(rows[first]))
        self.notes.append(f"{len(rows) - len(kept)} rows with a missing cell are left out, the first is {where}")
        return kept

    def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
        """Learn each column from `train`, and turn categories into their index."""
        if not self.columns:
            train = splits["train"].inputs.numpy()
            self.columns = [
                learn_column(name, train[:, place], self._texts.get(name), max_categories=self.max_categories)
                for place, name in enumerate(self._choice.names)
            ]
        self._check_width()
        return {name: Examples(self._indexed(each.inputs), each.targets) for name, each in splits.items()}

    def _indexed(self, matrix: Tensor) -> Tensor:
        """(N, C) as read -> float32 (N, C) with the index of each category."""
        rows = matrix.numpy().astype(np.float32)
        for place, column in enumerate(self.columns):
            if column.values is not None:
                index = np.append(index_categories(column, self._texts[column.name]), np.nan)
                codes = matrix[:, place].numpy()
                rows[:, place] = index[np.where(np.isnan(codes), len(index) - 1, codes).astype(np.int64)]
        return torch.from_numpy(rows)

    def log_summary(self) -> None:
        super().log_summary()
        for note in self.notes:
            log.info("%s", note)

    # ---- from numbers to what the model sees

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002 (Lightning's hook)
        rows, targets = batch
        key = rows.device, rows.dtype
        if key not in self._constants:  # once: copying numbers to a GPU waits for it
            self._constants[key] = self._make_constants(*key)
        parts = self._constants[key]
        return torch.cat([*_numbers(rows, **parts), *_one_hot(rows, **parts), *_gaps(rows, **parts)], 1), targets

    def _make_constants(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Places of columns, what belongs to each number (n,), and of each category (k,) the first number and how many.

        The model receives all numbers, then all categories, then whether cells are missing.
        """
        places = {
            "numbers": [place for place, column in enumerate(self.columns) if column.values is None],
            "categories": [place for place, column in enumerate(self.columns) if column.values is not None],
            "gaps": [place for place, column in enumerate(self.columns) if column.missing],
        }
        means = [self.columns[place].mean for place in places["numbers"]]
        stds = [self.columns[place].std for place in places["numbers"]]
        sizes = [len(self.columns[place].values or ()) for place in places["categories"]]
        values: dict[str, list[float]] = {
            "fill": means,
            "shift": means if self.standardize else [0.0] * len(means),
            "scale": stds if self.standardize else [1.0] * len(means),
            "size": [float(size) for size in sizes],
            "start": [float(sum(sizes[:number])) for number in range(len(sizes))],
        }
        indices = {name: torch.tensor(part, device=device, dtype=torch.long) for name, part in places.items()}
        found = {name: torch.tensor(part, device=device, dtype=dtype) for name, part in values.items()}
        return {**indices, **found, "count": sum(sizes)}

    # ---- a user's own input

    def iter_inputs(self, given: str) -> Iterator[TableRow]:
        """Rows of a file that names the columns in any order; others are not read.

        Raises:
            UserError: there is no such file, or a column is missing.
        """
        names = [column.name for column in self.columns]
        table = read_table(
            given, key="input", columns=names, delimiter=self.source.delimiter, encoding=self.source.encoding
        )
        if absent := [name for name in names if name not in table.names]:
            raise UserError(
                f"input={given}: the model needs the columns {shorten(names)}; {shorten(absent)} "
                f"{'is' if len(absent) == 1 else 'are'} missing (the first line of the file has to name the columns)"
                + "".join(f"; {name}: {why}" for name, why in table.columns.unusable.items())
            )
        rows = zip(*(table.texts(name) for name in names), strict=True)
        return (TableRow(number, [cell or "" for cell in cells]) for number, cells in enumerate(rows, start=1))

    def load_input(self, source: TableRow) -> RawInput:
        values, conversions = [], []
        for column, cell in zip(self.columns, source.cells, strict=True):
            value = self._parse_cell(column, cell)
            if math.isnan(value) and self.missing != "mean":
                raise ValueError(f"column {column.name!r} is empty")
            if math.isnan(value) and not column.missing:
                conversions.append(f"with a missing {column.name}, which no row of train has")
            if value == -1 and column.values is not None and cell not in column.values:
                conversions.append(f"with an unknown {column.name}")
            values.append(value)
        return RawInput({"row": source.number}, torch.tensor(values), conversions)

    def _parse_cell(self, column: Column, cell: str) -> float:
        """A number, the index of a category, -1 for one that is unknown; NaN where the cell is missing."""
        if not cell or (column.values is None and cell in self.source.na_values):
            return math.nan
        if column.values is not None:
            return float(column.values.index(cell)) if cell in column.values else -1.0
        number = cell.replace(",", ".") if self.source.decimal_comma else cell
        if not re.match(NUMBER, number) or abs(float(number)) > LARGEST:
            raise ValueError(f"column {column.name!r} is {cell!r} and no number")
        return float(number)

    def collate(self, contents: Sequence[Any]) -> Batch:
        return torch.stack(list(contents)), None


# ---- the parts of what a model receives, for rows (B, C); none where there is no such column


def _numbers(rows: Tensor, *, numbers: Tensor, fill: Tensor, shift: Tensor, scale: Tensor, **_: Any) -> list[Tensor]:
    """(B, n), standardized."""
    if not len(numbers):
        return []
    cells = rows.index_select(1, numbers)
    return [(torch.where(cells.isnan(), fill, cells) - shift) / scale]


def _one_hot(rows: Tensor, *, categories: Tensor, size: Tensor, start: Tensor, count: int, **_: Any) -> list[Tensor]:
    """(B, K) of all categories; zeros for an unknown one and for a missing cell."""
    if not len(categories):
        return []
    cells = rows.index_select(1, categories)
    known = (cells >= 0) & (cells < size)
    place = torch.where(known, cells + start, float(count)).long()
    return [rows.new_zeros(rows.shape[0], count + 1).scatter(1, place, 1.0)[:, :count]]


def _gaps(rows: Tensor, *, gaps: Tensor, **_: Any) -> list[Tensor]:
    """(B, g): whether the cell is missing."""
    return [rows.index_select(1, gaps).isnan().to(rows.dtype)] if len(gaps) else []


def count_numbers(settings: Mapping[str, Any]) -> int:
    """D, the numbers that a model receives of a row. It depends on the training split: its categories are counted.

    What is read for it is saved for the data set that is built of the same settings.
    """
    data = TableFile(**settings)
    key = data.key()
    if key not in _WIDTHS:
        data.load()
        content = {name: getattr(data, name) for name in ("names", "examples", "columns", "notes")}
        TableFile.waiting, _WIDTHS[key] = (key, content), data.width
    return _WIDTHS[key]


_WIDTHS: dict[str, int] = {}  # by `TableFile.key`


def _parse_columns(preprocess: Mapping[str, Any]) -> list[Column]:
    """The columns of a recorded run; a KeyError or TypeError where they are no such."""
    columns = [Column(**column) for column in preprocess["columns"]]
    for column in columns:
        numbers = all(isinstance(part, int | float) for part in (column.mean, column.std, column.missing))
        texts = column.values is None or all(isinstance(text, str) for text in column.values)
        if not (isinstance(column.name, str) and numbers and texts):
            raise TypeError(f"column {column.name!r}")
    return columns
