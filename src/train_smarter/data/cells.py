"""Convert cells of a table, which are texts, to numbers; a cell that is none is named by its line. Imports no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from train_smarter.data.table_file import StringTable
from train_smarter.errors import UserError

# What an empty cell may also be spelled as in a column of numbers. In a column of texts, None may be a category.
NA_VALUES = ("NA", "N/A", "NaN", "nan", "null", "None", "?", "-")
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
# A number with a currency, a percent sign or marks between thousands: $12, 45 %, 1.234,5
MARKED = r"^([A-Z]{3} )?\W?\s?[+-]?(\d+([.,]\d+)?|\d{1,3}([.,' ]\d{3})+([.,]\d+)?)\s?[^\w\s]?( [A-Z]{3})?$"
CODE = r"^[+-]?0\d"  # 00501 is no number
LARGEST = float(np.finfo(np.float32).max)  # tensors of a larger number hold infinity
MOSTLY = 0.8  # share of numbers from which a cell that is none is a mistake, and not a text


def number_cells(table: StringTable, name: str, na_values: Sequence[str], *, decimal_comma: bool = False) -> Any:
    """The cells of a column as a pyarrow array of texts, None where one is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = table.column(name)
    missing = pc.is_in(cells, value_set=pa.array([str(value) for value in na_values], pa.string()))
    cells = pc.if_else(missing, pa.scalar(None, pa.string()), cells)
    return pc.replace_substring(cells, ",", ".") if decimal_comma else cells


def is_number_column(table: StringTable, name: str, cells: Any, *, as_texts: str) -> bool:
    """Whether cells are numbers; codes with leading zeros are none.

    Args:
        as_texts: what to type if the column is meant as texts.

    Raises:
        UserError: most are numbers, and one is none; or they have decimal commas.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if cells.null_count == len(cells) or _any(pc.match_substring_regex(cells, CODE)):
        return False
    try:
        pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        present = len(cells) - cells.null_count
        numbers = pc.match_substring_regex(cells, NUMBER)
        commas = pc.match_substring_regex(cells, DECIMAL_COMMA)
        if (many := _count(pc.or_(numbers, commas))) >= MOSTLY * present and _any(commas):
            raise _comma_error(table, name, cells, commas) from None
        if many < MOSTLY * present:
            return False
        row = first_true(pc.invert(numbers))
        raise table.error(
            row,
            name,
            f"{cells[row].as_py()!r} is no number, but {many} of {present} cells are: correct it, or empty it; if the "
            f"column holds no numbers, type {as_texts}",
        ) from None
    return True


def _comma_error(table: StringTable, name: str, cells: Any, commas: Any) -> UserError:
    row = first_true(commas)
    return table.error(
        row,
        name,
        f"{cells[row].as_py()!r} has a comma: type data.decimal_comma=true if it is the decimal mark; remove it if it "
        "separates thousands",
    )


def describe_marked(table: StringTable, name: str, cells: Any) -> str:
    """That a column of texts holds numbers with other marks, and the cure; empty: it is no such column."""
    import pyarrow.compute as pc

    marked = pc.match_substring_regex(cells, MARKED)
    if _any(pc.match_substring_regex(cells, CODE)) or _count(marked) < MOSTLY * (len(cells) - cells.null_count):
        return ""
    plain = pc.match_substring_regex(cells, NUMBER)
    row = first_true(pc.and_not(marked, plain).fill_null(False))
    if row < 0:
        return ""
    return (
        f"{name} holds numbers with other marks, {table.column(name)[row].as_py()!r} in {table.place(row)}, which are "
        "read as texts: to use them as numbers, write each with digits and one point alone, 1234.5"
    )


def to_numbers(table: StringTable, name: str, cells: Any) -> Any:
    """Cells as float64 (N,), NaN where one is missing.

    Raises:
        UserError: a cell is no number, or infinite as float32.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        values = pc.cast(cells, pa.float64()).to_numpy().copy()
    except pa.ArrowInvalid:
        row = first_true(pc.invert(pc.match_substring_regex(cells, NUMBER)))
        raise table.error(row, name, f"{cells[row].as_py()!r} is no number") from None
    infinite = np.abs(values) > LARGEST
    if infinite.any():
        row = int(infinite.argmax())
        problem = "no finite number" if np.isinf(values[row]) else "too large for float32"
        raise table.error(
            row,
            name,
            f"{cells[row].as_py()!r} is {problem}: correct it, or count it as missing, "
            f"'data.na_values=[{cells[row].as_py()}]'",
        )
    return values


def first_true(mask: Any) -> int:
    """The first row where a pyarrow array of bools is true."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return int(pc.index(mask, pa.scalar(True)).as_py())


def _any(mask: Any) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(mask).as_py())


def _count(mask: Any) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(mask).as_py() or 0)
