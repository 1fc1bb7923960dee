"""What tables share: columns of numbers, standardized on the device, and CSV files as a user's own input."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.base import Data
from train_smarter.data.examples import Batch, Examples, RawInput, SplitName
from train_smarter.errors import UserError


@dataclass(frozen=True)
class TableRow:
    """A row of a CSV file; `number` counts from 1, without the header."""

    number: int
    cells: Sequence[str]

    def __str__(self) -> str:
        return f"row {self.number}"


class TableData(Data):
    """Rows of numbers (N, D), floats; a model receives (value - mean) / std of each column.

    Mean and standard deviation are learned on the training split and recorded with the run. A constant column is only
    shifted.

    Args:
        shape: [D], compared with the data in `setup`.
        standardize: False: a model receives the numbers as they are.

    Attributes:
        columns: names of the D columns, for messages and for CSV files with a header; `read` may set them.
    """

    kind = "rows"
    columns: Sequence[str] = ()
    NOT_READ_KEYS = (*Data.NOT_READ_KEYS, "_constants")

    def __init__(self, *, shape: Sequence[int], standardize: bool = True, **data: Any) -> None:
        super().__init__(**data)
        if len(shape) != 1:
            raise UserError(f"data.shape={list(shape)}: give the number of columns, for example data.shape=[10]")
        self.shape, self.standardize = tuple(shape), standardize
        self.mean: list[float] | None = None if standardize else [0.0] * shape[0]
        self.std: list[float] = [1.0] * shape[0]
        self._known_columns: list[str] = []  # of a checkpoint
        self._constants: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    # ---- what a run records

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "columns": list(self.columns), "mean": self.mean, "std": self.std}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        super().load_preprocess(preprocess)
        if (known := len(preprocess["mean"])) != self.shape[0]:
            raise UserError(f"the run was trained on {known} columns, but data.shape={list(self.shape)}")
        self.columns = preprocess["columns"]
        self.adopt_inputs(preprocess)

    def adopt_inputs(self, preprocess: dict[str, Any]) -> None:
        """Mean and standard deviation of each column, where there are as many."""
        if len(preprocess["mean"]) != self.shape[0]:
            return  # the first layer does not fit, and starts afresh
        self._known_columns = list(preprocess["columns"])
        self._check_columns()
        self.mean, self.std = preprocess["mean"], preprocess["std"]  # 0 and 1 where it had standardize=False
        self.standardize = True
        self._constants.clear()

    def _check_columns(self) -> None:
        """Compare the columns that were read with those of a checkpoint, where both have names."""
        if self._known_columns and self.columns and self._known_columns != list(self.columns):
            raise UserError(
                f"the checkpoint was trained on the columns {', '.join(self._known_columns)}, but "
                f"{type(self).__name__} has {', '.join(self.columns)}: give the same columns in the same order"
            )

    # ---- from numbers to what the model sees

    def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
        """Check the numbers, and learn mean and standard deviation from `train`."""
        self._check_columns()
        for name, examples in splits.items():
            self._check_rows(examples.inputs, name)
        if self.mean is None:
            rows = splits["train"].inputs.double()
            std = rows.std(0, correction=0)
            # The deviation of equal floats is not exactly 0.
            constant = std <= 1e-12 * rows.abs().amax(0)
            self.mean, self.std = rows.mean(0).tolist(), torch.where(constant, 1.0, std).tolist()
        return {name: Examples(each.inputs.float(), each.targets) for name, each in splits.items()}

    def _check_rows(self, rows: Tensor, split: str) -> None:
        if (given := tuple(rows.shape[1:])) != self.shape:
            raise UserError(f"data.shape={list(self.shape)}, but the rows of {type(self).__name__} are {list(given)}")
        wrong = ~rows.isfinite()
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            raise UserError(
                f"{type(self).__name__}: {self._column(column)} of {split} holds {int(wrong[:, column].sum())} NaN or "
                f"infinite values, the first in row {row}: fill them, or leave those rows out"
            )

    def _column(self, index: int) -> str:
        return f"column {self.columns[index]!r}" if self.columns else f"column {index}"

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002 (Lightning's hook)
        rows, targets = batch
        if not self.standardize:
            return batch
        key = rows.device, rows.dtype
        if key not in self._constants:  # once: copying numbers to a GPU waits for it
            assert self.mean is not None, "mean and std come from setup or load_preprocess"
            mean, std = (torch.tensor(each, device=rows.device, dtype=rows.dtype) for each in (self.mean, self.std))
            self._constants[key] = mean, std
        mean, std = self._constants[key]
        return (rows - mean) / std, targets

    # ---- a user's own input

    def iter_inputs(self, given: str) -> Iterator[TableRow]:
        """Rows of a CSV file with D columns in order, or with a header that names them, in any order.

        Raises:
            UserError: there is no such file, or a column is missing.
        """
        path = Path(given).expanduser()
        if not path.is_file():
            raise UserError(f"input={given}: there is no such file; give a CSV file with a row of numbers an example")
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
        places: Sequence[int] = range(self.shape[0])
        if lines and not any(_is_number(cell) for cell in lines[0]):
            places = self._find_columns(given, [cell.strip() for cell in lines.pop(0)])
        elif lines and len(lines[0]) != self.shape[0]:
            raise UserError(f"input={given}: the first row has {len(lines[0])} numbers, and not {self.shape[0]}")
        rows = ([line[place] if place < len(line) else "" for place in places] for line in lines)
        return (TableRow(number, cells) for number, cells in enumerate(rows, start=1))

    def _find_columns(self, given: str, header: Sequence[str]) -> list[int]:
        """Return where each column is."""
        wanted = self.columns or header
        missing = [name for name in wanted if name not in header]
        if missing or len(wanted) != self.shape[0]:
            needed = ", ".join(map(str, self.columns)) or f"{self.shape[0]} columns"
            raise UserError(f"input={given}: the header is {', '.join(header)}, but the model needs {needed}")
        return [header.index(name) for name in wanted]

    def load_input(self, source: TableRow) -> RawInput:
        values = []
        for index, cell in enumerate(source.cells):
            if not _is_number(cell):
                raise ValueError(f"{self._column(index)} is {cell!r} and no number")
            values.append(float(cell))
        return RawInput({"row": source.number}, torch.tensor(values))


def _is_number(cell: str) -> bool:
    """Whether it is a finite number."""
    try:
        return abs(float(cell)) < float("inf")
    except ValueError:
        return False
