"""Columns of a table as a model's input: which are numbers, which categories, and what training learns of each.

Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from train_smarter.data.cells import NA_VALUES, describe_marked, is_number_column, number_cells, to_numbers
from train_smarter.data.table_file import StringTable, shorten
from train_smarter.data.table_source import DATE
from train_smarter.errors import UserError

FEW = 20  # different texts up to which a column holds categories, however few rows there are


@dataclass(frozen=True)
class Column:
    """A column, and what it became in training.

    values: of a category, the texts that have an index, sorted; None: the column holds numbers.
    mean, std: of a number.
    missing: a cell was missing in the training split; the model then sees whether one is.
    """

    name: str
    values: list[str] | None = None
    mean: float = 0.0
    std: float = 1.0
    missing: bool = False

    @property
    def width(self) -> int:
        """Numbers that a model sees of it."""
        return (1 if self.values is None else len(self.values)) + self.missing


@dataclass(frozen=True)
class ColumnChoice:
    """Which columns are used.

    numbers, categories: by name, in the order of the file.
    notes: lines for the log.
    """

    names: list[str]
    categories: set[str]
    notes: list[str] = field(default_factory=list)


def choose_columns(
    table: StringTable,
    *,
    roles: Sequence[str],
    columns: Sequence[str] = (),
    ignore: Sequence[str] = (),
    categories: Sequence[str] = (),
    na_values: Sequence[str] = NA_VALUES,
    decimal_comma: bool = False,
) -> ColumnChoice:
    """Decide what each column is by what it holds.

    Args:
        roles: columns that are no input: targets, the split.
        columns: those that are used; empty: all that can be.
        ignore: those that are not.
        categories: columns of numbers that are categories.

    Raises:
        UserError: a named column is missing; most cells of a column are numbers, and one is none; no column is left.
    """
    roles, columns, ignore, categories = map(table.expand, (roles, columns, ignore, categories))
    for key, given in (("columns", columns), ("ignore", ignore), ("categories", categories)):
        table.require(given, f"data.{key}")
    if lists := table.columns.labels & {*columns, *categories}:
        raise UserError(f"data.columns: {sorted(lists)[0]} holds lists of texts, which are no input; leave it out")
    if given := [name for name in columns if name in roles]:
        raise UserError(f"data.columns: {given[0]} is the target, or says the split; leave it out")
    chosen, texts, left_out, marked = list[str](), set[str](), dict[str, str](), list[str]()
    unusable = dict.fromkeys(sorted(table.columns.labels), "lists of texts") | table.columns.unusable
    for name in columns or [name for name in table.names if name not in (*roles, *ignore, *unusable)]:
        cells = number_cells(table, name, na_values, decimal_comma=decimal_comma)
        number = name not in categories and is_number_column(
            table, name, cells, as_texts=f"'data.categories=[{name}]' or 'data.ignore=[{name}]'"
        )
        if not number and name not in categories and (problem := describe_marked(table, name, cells)):
            marked.append(f"{problem}; for categories, type 'data.categories=[{name}]'")
        reason = _why_unused(name, cells if number else table.column(name), number=number, typed=bool(columns))
        if reason and name not in categories:
            left_out[name] = reason
            continue
        chosen.append(name)
        texts |= set() if number else {name}
    left_out |= {name: why for name, why in unusable.items() if name not in (*roles, *ignore)}
    unused = ", ".join(f"{name or 'the first column'} ({reason})" for name, reason in left_out.items())
    if not chosen:
        why = "; ".join([unused or "there is none but the target", *marked])
        raise UserError(f"{table.where}: no column is left for the input: {why}")
    kinds = {
        "numbers": [name for name in chosen if name not in texts],
        "categories": [name for name in chosen if name in texts],
    }
    notes = [f"columns of {kind}: {shorten(names)}" for kind, names in kinds.items() if names]
    if unused:
        notes.append(f"left out: {unused}; 'data.columns=[...]' names those to use")
    return ColumnChoice(chosen, texts, [*notes, *marked])


def _why_unused(name: str, cells: Any, *, number: bool, typed: bool) -> str:
    """Why a column is left out; empty: it is used. One that is named in `data.columns` is used if it holds anything."""
    import pyarrow as pa
    import pyarrow.compute as pc

    present = len(cells) - cells.null_count
    if not present:
        return "empty"
    if typed:
        return ""
    if not name:
        return "no name, as pandas writes an index"
    different = len(pc.unique(cells.drop_null()))
    if different == 1 and present == len(cells):
        return f"{cells[0].as_py()} in every row"
    if number:
        values = pc.cast(cells, pa.float64()).to_numpy()
        counts = len(values) > 2 and values[0] % 1 == 0 and bool((np.diff(values) == 1).all())  # not where one is NaN
        return "counts the rows" if counts else ""
    if pc.all(pc.match_substring_regex(cells.drop_null(), DATE)).as_py():
        return "dates"
    if different == present > 2 or different > max(FEW, present / 2):
        return f"{different} different texts"
    return ""


def read_columns(
    table: StringTable,
    names: Sequence[str],
    categories: set[str],
    *,
    na_values: Sequence[str] = NA_VALUES,
    decimal_comma: bool = False,
) -> tuple[Any, dict[str, list[str]]]:
    """The cells as numbers.

    Returns:
        float64 (N, C), NaN where a cell is missing, of a category the place of its text; and these texts by column.
    """
    import pyarrow.compute as pc

    matrix = np.empty((len(table), len(names)))
    texts: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        if name in categories:
            encoded = pc.dictionary_encode(table.column(name)).combine_chunks()
            texts[name] = encoded.dictionary.to_pylist()
            codes = encoded.indices.fill_null(-1).to_numpy()
            matrix[:, place] = np.where(codes < 0, np.nan, codes)
        else:
            cells = number_cells(table, name, na_values, decimal_comma=decimal_comma)
            matrix[:, place] = to_numbers(table, name, cells)
    return matrix, texts


def learn_column(name: str, cells: Any, texts: Sequence[str] | None, *, max_categories: int) -> Column:
    """What training learns of a column.

    Args:
        cells: (N,) of the training split, as `read_columns` returns them.
        texts: of a category; None: numbers.
        max_categories: the most frequent texts that get an index, if training has two of them at least; the others are
            treated as unknown ones, which so occur in training, too.
    """
    missing = np.isnan(cells)
    present, some = cells[~missing], bool(missing.any())
    if texts is None:
        if not len(present):
            return Column(name, missing=some)
        mean, std = float(present.mean()), float(present.std())
        # The deviation of equal floats is not exactly 0.
        constant = std <= 1e-12 * np.abs(present).max()
        return Column(name, mean=mean, std=1.0 if constant else std, missing=some)
    counts = np.bincount(present.astype(np.int64), minlength=len(texts))
    frequent = sorted(np.flatnonzero(counts > 1).tolist(), key=lambda code: (-counts[code], texts[code]))[
        :max_categories
    ]
    return Column(name, values=sorted(texts[code] for code in frequent), missing=some)


def index_categories(column: Column, texts: Sequence[str]) -> Any:
    """The index of each text in `column.values`, float64 (K,); -1: unknown."""
    place = {text: index for index, text in enumerate(column.values or ())}
    return np.array([place.get(text, -1) for text in texts], dtype=np.float64)
