"""Read a file with columns, CSV, TSV, JSONL or Parquet, or a folder of texts, as texts. Imports no torch.

A reader that guesses types turns the code 00501 into the number 501. So every cell is text, an empty one is None, and
the caller knows what a column holds, and converts it; `StringTable.place` names the line for a message.
"""

import glob
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from train_smarter.data import text_folders
from train_smarter.data.delimited import (
    DelimitedFormat,
    detect_format,
    line_of,
    open_bytes,
    reject_open_quote,
    reject_ragged,
)
from train_smarter.data.json_columns import ColumnNames
from train_smarter.data.json_rows import json_place, read_json
from train_smarter.errors import UserError, did_you_mean, file_error

log = logging.getLogger(__name__)

DELIMITED = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat")
JSON = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
ACCEPTED = "CSV, TSV, JSONL or Parquet"
CSV_BLOCK = 1 << 24  # bytes; a row may not be longer


@dataclass(frozen=True)
class TablePart:
    """One of the files of a table, in its order.

    format: of a file with delimiters.
    """

    path: Path
    rows: int
    format: DelimitedFormat | None = None


@dataclass(frozen=True)
class StringTable:
    """Columns of texts, by name; rows count from 0.

    parts: the files, one after the other.
    data: a pyarrow.Table of strings.
    columns: all names of the files, of which some may not have been read.
    """

    parts: list[TablePart]
    data: Any
    columns: ColumnNames

    @property
    def known(self) -> list[str]:
        return [*self.columns.known]

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def names(self) -> list[str]:
        return list(self.data.column_names)

    def column(self, name: str) -> Any:
        """The cells of a column, a pyarrow.ChunkedArray of strings without spaces around them; None: empty."""
        import pyarrow as pa
        import pyarrow.compute as pc

        cells = pc.utf8_trim_whitespace(self.data.column(name))
        return pc.if_else(pc.equal(cells, pa.scalar("")), pa.scalar(None, pa.string()), cells)

    def texts(self, name: str) -> list[str | None]:
        cells: list[str | None] = self.column(name).to_pylist()
        return cells

    def expand(self, names: Sequence[str]) -> list[str]:
        """The columns of these names: of a column of lists of numbers, one for each place."""
        return [part for name in names for part in self.columns.parts.get(name, [name])]

    def require(self, names: Sequence[str], key: str) -> None:
        """Raise a UserError if a column is missing, or named twice.

        Args:
            key: under which its name was typed, for example data.target.
        """
        for name in names:
            if list(names).count(name) > 1:
                raise UserError(f"{key} names {name} twice")
            if name in self.columns.unusable:
                raise UserError(f"{key}={name} cannot be used: {self.columns.unusable[name]}")
            if parts := self.columns.parts.get(name):
                raise UserError(
                    f"{key}={name} holds lists of numbers: give one of their places, {shorten(parts, count=2)}"
                )
            if name not in self.names:
                raise UserError(
                    f"{key}={name}: {self.where} has no such column{did_you_mean(name, self.known) or '.'} It has "
                    f"{shorten(self.known)}{self._header_hint()}"
                )

    def _header_hint(self) -> str:
        if any(part.format for part in self.parts) and any(_looks_like_number(name) for name in self.known):
            return "; the first line of the file has to name the columns"
        return f" ({form})" if (form := self.parts[0].format) else ""

    @property
    def where(self) -> str:
        """The file, or the first one of several."""
        more = f" (and {len(self.parts) - 1} more)" if len(self.parts) > 1 else ""
        return f"{self.parts[0].path}{more}"

    def describe(self) -> str:
        form = self.parts[0].format
        return f"{self.where}: {len(self)} rows, {len(self.known)} columns{f', {form}' if form else ''}"

    def place(self, row: int) -> str:
        """The file with the line of a row, or with its number where there are no lines; rows count from 1 then."""
        for part in self.parts:
            if row < part.rows:
                break
            row -= part.rows
        if part.format:
            return f"{part.path}, line {line_of(part.path, part.format, row)}"
        if part.path.is_dir():
            return str(next(islice(text_folders.iter_files(part.path), row, None)))
        if part.path.suffix.lower() in PARQUET:
            return f"{part.path}, row {row + 1}"
        return json_place(part.path, row)

    def error(self, row: int, column: str, problem: str) -> UserError:
        """A UserError about a cell, to be raised."""
        return UserError(f"{self.place(row)}, column {column!r}: {problem}")


def shorten(names: Sequence[str], *, count: int = 12) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > count else ""
    return f"{', '.join(map(str, names[:count]))}{more}"


def _looks_like_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---- which files


def expand_files(given: str | Sequence[str], key: str = "data.file") -> list[Path]:
    """The files that are named: one, a glob, sorted, or a list of them.

    Raises:
        UserError: there is no such file, or it is none of those that are read.
    """
    files: list[Path] = []
    for one in [given] if isinstance(given, str | os.PathLike) else list(given):
        path = Path(one).expanduser().absolute()
        found = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        if not found:
            beside = os.listdir(path.parent) if path.parent.is_dir() else []  # noqa: PTH208
            raise UserError(f"{key}={one}: there is no such file{did_you_mean(path.name, beside)}")
        files += found
    for path in files:
        _reject_other_kinds(path, key)
    if not files:
        raise UserError(f"{key}={list(given)}: give a file, {ACCEPTED}")
    return files


def _reject_other_kinds(path: Path, key: str) -> None:
    if path.is_dir() and not text_folders.class_folders(path):
        inside = sorted(file.name for file in path.iterdir() if kind_of(file))
        hint = f"give one of its files, {shorten(inside, count=3)}, or a glob in quotes" if inside else "give a file"
        raise UserError(f"{key}={path} is a folder: {hint}")
    if not path.is_dir() and not kind_of(path):
        cure = "save it as CSV" if path.suffix.lower() in (".xlsx", ".xls", ".ods") else "its name has to end in "
        endings = "" if cure == "save it as CSV" else " ".join((*DELIMITED, *JSON, *PARQUET))
        raise UserError(f"{key}={path}: {ACCEPTED} are read; {cure}{endings}")


def kind_of(path: Path) -> str:
    """The ending that shows how a file is written, without `.gz`; empty: none that is read."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    ending = (suffixes[:-1] if zipped else suffixes)[-1:]
    known = (*DELIMITED, *JSON) if zipped else (*DELIMITED, *JSON, *PARQUET)
    return ending[0] if ending and ending[0] in known else ""


# ---- reading


def read_table(
    given: str | Sequence[str],
    *,
    key: str = "data.file",
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    keep_lists: bool = False,
) -> StringTable:
    """Read files with the same columns, one after the other.

    Args:
        given: a file, a glob, or a list of them.
        key: what was typed before it, for messages.
        columns: those that are read, where the file has them; None: all.
        delimiter, encoding: of text files; None: detected.
        keep_lists: a cell of a JSON file with a list is JSON; else see `ColumnNames`.

    Raises:
        UserError: a file is missing, is no such file, has a ragged row, no row, or other columns than the first one.
    """
    import pyarrow as pa

    parts: list[TablePart] = []
    tables: list[Any] = []
    names = ColumnNames(keep_lists=keep_lists)
    for path in expand_files(given, key):
        form, table = _read_file(path, columns, names, delimiter=delimiter, encoding=encoding)
        tables = [names.usable(each) for each in tables]  # a later file may hold something else
        if tables and sorted(table.column_names) != sorted(tables[0].column_names):
            _reject_other_columns(parts[0].path, tables[0].column_names, path, table.column_names)
        parts.append(TablePart(path, table.num_rows, form))
        tables.append(table.select(tables[0].column_names) if tables else table)
    table = pa.concat_tables(tables)
    if not table.num_columns and names.unusable:
        raise UserError(next(f"{name}: {why}" for name, why in names.unusable.items()))
    if not table.num_rows:
        raise UserError(f"{parts[0].path} has no row{' after its header' if parts[0].format else ''}")
    return StringTable(parts, table, names)


def _reject_other_columns(first: Path, known: Sequence[str], path: Path, names: Sequence[str]) -> None:
    missing, more = sorted({*known} - {*names}), sorted({*names} - {*known})
    difference = f"lacks {shorten(missing)}" if missing else f"has also {shorten(more)}"
    raise UserError(f"{path} {difference}: {first} has the columns {shorten(list(known))}")


def _read_file(
    path: Path, columns: Sequence[str] | None, names: ColumnNames, *, delimiter: str | None, encoding: str | None
) -> tuple[DelimitedFormat | None, Any]:
    """The format of a text file, and a pyarrow.Table; of a file with none of the columns, all."""
    import pyarrow as pa

    try:
        if path.is_dir():
            names.known |= dict.fromkeys(text_folders.COLUMNS)
            return None, pa.table(text_folders.read_folder(path, encoding))
        if (kind := kind_of(path)) in (*PARQUET, *JSON):
            form = None
            read = partial(_read_parquet if kind in PARQUET else read_json, path, names)
        else:
            form = detect_format(path, delimiter=delimiter, encoding=encoding)
            names.known |= dict.fromkeys(name.strip() for name in form.header)
            read = partial(_read_delimited, path, form)
        table = read(columns)
        return form, table if table.num_columns else read(None)
    except OSError as error:
        raise file_error(error, path=path) from error


def _read_delimited(path: Path, form: DelimitedFormat, columns: Sequence[str] | None) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    wanted = [name for name in form.header if columns is None or name.strip() in columns]
    if not wanted:
        return pa.table({})
    conversion = csv.ConvertOptions(
        column_types={name: pa.string() for name in form.header},
        include_columns=wanted,
        null_values=[""],
        strings_can_be_null=True,
    )
    try:
        with open_bytes(path) as file:
            table = csv.read_csv(
                file,
                csv.ReadOptions(encoding=form.encoding.removesuffix("-sig"), block_size=CSV_BLOCK),
                csv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True),
                conversion,
            )
    except pa.ArrowInvalid as error:
        reject_ragged(path, form, error)
    except UnicodeError as error:
        raise UserError(f"{path} is not {form.encoding}: {error}; type another data.encoding=...") from error
    if table.num_rows and any("\n" in (table.column(place)[-1].as_py() or "") for place in range(table.num_columns)):
        reject_open_quote(path, form)
    return table.rename_columns([name.strip() for name in wanted])


# ---- Parquet


def _read_parquet(path: Path, names: ColumnNames, columns: Sequence[str] | None) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        types = {entry.name: entry.type for entry in file.schema_arrow}
        plain = {name: not (pa.types.is_nested(kind) or pa.types.is_binary(kind)) for name, kind in types.items()}
        names.known |= dict.fromkeys(types)
        names.unusable |= {name: "it holds lists or objects" for name in types if not plain[name]}
        table = file.read(columns=[name for name in types if plain[name] and (columns is None or name in columns)])
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is no Parquet file that can be read: {error}") from error
    return pa.table({name: _strings(table.column(name)) for name in table.column_names})


def _strings(column: Any) -> Any:
    """A column of any plain type as texts; a date as 2024-12-31."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())
