"""What the target columns of a table hold: classes, numbers or labels, and so which task it is. Imports no torch."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from train_smarter.data.cells import NA_VALUES, describe_marked, is_number_column, number_cells, to_numbers
from train_smarter.data.table_file import StringTable, shorten
from train_smarter.errors import UserError

# What targets hold, and the task that learns it.
TASKS = {"classes": "classification", "numbers": "regression", "labels": "multilabel"}
MAX_INTEGER_CLASSES = 20  # different integers up to which they count as classes
MAX_CLASSES = 1000  # a confusion matrix has the square of it
TRUE, FALSE = ("1", "1.0", "true", "True", "TRUE"), ("0", "0.0", "false", "False", "FALSE")


@dataclass(frozen=True)
class Targets:
    """The targets of the rows that have all of theirs.

    kind: classes, numbers or labels.
    names: of the classes, or of the labels in lists, sorted; else of the columns.
    values: int64 classes (M,); or float64 (M, D).
    rows: (M,) int64, their rows in the table.
    """

    kind: str
    names: list[str]
    values: Any
    rows: Any


def detect_targets(
    table: StringTable, columns: Sequence[str], *, na_values: Sequence[str] = NA_VALUES, decimal_comma: bool = False
) -> tuple[str, str]:
    """Decide what target columns are by what they hold.

    Returns:
        classes, numbers or labels; and the reason, for a line on the screen.

    Raises:
        UserError: a column is missing, or mixes numbers and texts; several columns are no numbers.
    """
    columns = table.expand(columns)
    table.require(columns, "data.target")
    if set(columns) & table.columns.labels:
        return "labels", f"{columns[0]} holds lists of labels"
    if len(columns) > 1:
        return _detect_several(table, columns, na_values, decimal_comma=decimal_comma)
    cells = number_cells(table, columns[0], na_values, decimal_comma=decimal_comma)
    if not is_number_column(table, columns[0], cells, as_texts="task=classification"):
        return "classes", f"{columns[0]} holds texts"
    values = to_numbers(table, columns[0], cells)
    values = values[~np.isnan(values)]
    different = len(np.unique(values))
    if are_classes(different, len(values)) and np.equal(np.mod(values, 1), 0).all():
        return "classes", f"{columns[0]} holds {different} different integers"
    return "numbers", f"{columns[0]} holds numbers"


def are_classes(different: int, count: int) -> bool:
    """Whether so many different integers in `count` rows count as classes, and not for numbers."""
    return different <= MAX_INTEGER_CLASSES and (different == 2 or different <= count / 2)


def _detect_several(
    table: StringTable, columns: Sequence[str], na_values: Sequence[str], *, decimal_comma: bool
) -> tuple[str, str]:
    binary = all(_different(table, name, na_values) <= {*TRUE, *FALSE} for name in columns)
    if binary:
        return "labels", f"{shorten(columns, count=3)} hold 0 and 1"
    for name in columns:
        cells = number_cells(table, name, na_values, decimal_comma=decimal_comma)
        if not is_number_column(table, name, cells, as_texts="another data.target=..."):
            raise UserError(
                f"data.target=[{','.join(columns)}]: {name} holds texts; give one column of classes, or several of "
                "numbers, or of 0 and 1"
            )
    return "numbers", f"{shorten(columns, count=3)} hold numbers"


def _different(table: StringTable, name: str, na_values: Sequence[str]) -> set[str]:
    """The different cells, where they are a few; missing ones are left out."""
    import pyarrow.compute as pc

    found = pc.unique(number_cells(table, name, na_values))
    return {str(cell) for cell in found[: len(TRUE) + len(FALSE) + 2].to_pylist() if cell is not None}


def read_targets(
    table: StringTable,
    columns: Sequence[str],
    *,
    kind: str | None = None,
    names: Sequence[str] = (),
    na_values: Sequence[str] = NA_VALUES,
    decimal_comma: bool = False,
) -> Targets:
    """Read target columns; rows without a target are left out.

    Args:
        kind: classes, numbers or labels; None: decided by what the columns hold.
        names: of the classes that a past run knows; empty: those that are found.

    Raises:
        UserError: a cell does not fit, the rows have one class only, or there are too many classes.
    """
    columns = table.expand(columns)
    table.require(columns, "data.target")
    if set(columns) & table.columns.labels:
        return _read_label_lists(table, columns, kind, names)
    kind = kind or detect_targets(table, columns, na_values=na_values, decimal_comma=decimal_comma)[0]
    if kind not in TASKS:
        raise UserError(f"data.target_type={kind}: give one of {', '.join(TASKS)}")
    if kind == "classes":
        return _read_classes(table, columns, names, na_values)
    values = np.stack([_read_values(table, name, kind, na_values, decimal_comma) for name in columns], 1)
    rows = np.flatnonzero(~np.isnan(values).any(1))
    _reject_no_target(table, columns, rows)
    values = values[rows]
    for name, column in zip(columns, values.T, strict=True):
        if kind == "numbers" and (column == column[0]).all() and len(column) > 1:
            raise UserError(f"data.target={name}: every row of {table.where} has {column[0]:g}; nothing can be learned")
    return Targets(kind, list(columns), values, rows)


def _reject_no_target(table: StringTable, columns: Sequence[str], rows: Any) -> None:
    if not len(rows):
        raise UserError(f"data.target={','.join(columns)}: this column of {table.where} is empty in every row")


def _read_values(
    table: StringTable,
    name: str,
    kind: str,
    na_values: Sequence[str],
    decimal_comma: bool,
) -> Any:
    """One column of numbers, or of labels as 0 and 1; NaN where a cell is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = number_cells(table, name, na_values, decimal_comma=decimal_comma)
    if kind == "numbers":
        try:
            return to_numbers(table, name, cells)
        except UserError as error:
            if "is no number" in str(error):
                raise UserError(f"{error}; task=regression needs numbers: type task=classification for texts") from None
            raise
    for row, cell in enumerate(pc.unique(cells).to_pylist()):
        if cell is not None and cell not in (*TRUE, *FALSE):
            row = int(pc.index(cells, pa.scalar(cell)).as_py())
            raise table.error(row, name, f"{cell!r} is neither 0 nor 1, which task=multilabel needs")
    truth = pc.is_in(cells, value_set=pa.array(TRUE)).to_numpy().astype(np.float64)
    truth[cells.is_null().to_numpy()] = np.nan
    return truth


def _read_label_lists(table: StringTable, columns: Sequence[str], kind: str | None, names: Sequence[str]) -> Targets:
    """Lists of labels as 0 or 1 for each label; an empty list is an example without a label."""
    name = next(name for name in columns if name in table.columns.labels)
    if len(columns) > 1:
        raise UserError(f"data.target=[{','.join(columns)}]: {name} holds lists of labels; give it alone")
    if kind not in (None, "labels"):
        raise UserError(
            f"data.target={name} holds lists of labels, but the task needs {kind}: type task=multilabel, or another "
            "data.target=..."
        )
    cells = [None if cell is None else list(map(str.strip, json.loads(cell))) for cell in table.texts(name)]
    rows = np.array([row for row, cell in enumerate(cells) if cell is not None], dtype=np.int64)
    _reject_no_target(table, columns, rows)
    known = list(names) or sorted({label for cell in cells for label in cell or ()})
    if not 0 < len(known) <= MAX_CLASSES:
        raise UserError(f"data.target={name}: its lists hold {len(known)} different labels; give 1 to {MAX_CLASSES}")
    place = {label: number for number, label in enumerate(known)}
    values = np.zeros((len(rows), len(known)))
    for number, row in enumerate(rows.tolist()):
        for label in cells[row] or ():
            if label not in place:
                raise table.error(row, name, f"{label!r} is none of the labels of the run, {shorten(known)}")
            values[number, place[label]] = 1
    return Targets("labels", known, values, rows)


def _read_classes(
    table: StringTable, columns: Sequence[str], names: Sequence[str], na_values: Sequence[str]
) -> Targets:
    import pyarrow.compute as pc

    if len(columns) > 1:
        raise UserError(
            f"data.target=[{','.join(columns)}]: task=classification has one column of classes; type task=multilabel "
            "for columns of 0 and 1, task=regression for numbers"
        )
    name = columns[0]
    encoded = pc.dictionary_encode(table.column(name)).combine_chunks()
    found: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(-1).to_numpy()
    spelled = _class_spellings(found, na_values)
    rows = np.flatnonzero(np.isin(codes, [code for code, text in enumerate(spelled) if text is not None]))
    _reject_no_target(table, columns, rows)
    known = list(names) or _sort_classes({text for text in spelled if text is not None})
    if not names:
        _reject_bad_classes(table, name, known, len(rows))
    place = {text: number for number, text in enumerate(known)}
    numbers = np.array([-1 if text is None else place.get(text, -2) for text in spelled])
    values = numbers[codes[rows]].astype(np.int64)
    if (unknown := np.flatnonzero(values == -2)).size:
        row = int(rows[unknown[0]])
        raise table.error(row, name, f"{found[codes[row]]!r} is none of the classes of the run, {shorten(known)}")
    return Targets("classes", known, values, rows)


def _class_spellings(found: Sequence[str], na_values: Sequence[str]) -> list[str | None]:
    """The names of classes as they are found; 1.0 is 1 where all are integers, and NaN is none then."""
    numbers = [None if text in na_values else text for text in found]
    integers = [text for text in numbers if text is not None]
    if integers and all(re.fullmatch(r"-?(0|[1-9]\d{0,17})(\.0*)?", text) for text in integers):
        return [None if text is None else str(int(text.partition(".")[0])) for text in numbers]
    return list(found)


def _sort_classes(names: set[str]) -> list[str]:
    """By number where all are integers, else by alphabet."""
    integers = all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", name) for name in names)
    return sorted(names, key=int) if integers else sorted(names)


def _reject_bad_classes(table: StringTable, name: str, names: Sequence[str], rows: int) -> None:
    if len(names) == 1:
        raise UserError(
            f"data.target={name}: every row of {table.where} has {names[0]!r}; a classification needs two classes"
        )
    if len(names) > MAX_CLASSES or (len(names) > MAX_INTEGER_CLASSES and len(names) > rows / 2):
        numbers = all(re.fullmatch(r"-?\d+(\.\d+)?", each) for each in names)
        limit = f"at most {MAX_CLASSES} classes, which repeat, are possible"
        cure = "type task=regression to predict numbers" if numbers else limit
        cure = describe_marked(table, name, number_cells(table, name, ())) or cure
        raise UserError(f"data.target={name}: {len(names)} different values in {rows} rows are no classes; {cure}")
