"""Write predictions as CSV or JSON lines, and files beside them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from train_smarter.errors import UserError, file_error
from train_smarter.inference.predictor import Predictions
from train_smarter.run.files import atomic_file, naming
from train_smarter.sanitize import csv_cell, escape_controls

if TYPE_CHECKING:
    from train_smarter.task.base import Columns

PREVIEW_ROWS = 5  # so few predictions are shown in the terminal as well
PREVIEW_COLUMNS = 2  # of each
PREVIEW_ENTRIES = 3  # of a list in a column
MAX_STEM = 100  # characters of a file's name


# ---- writing


class CSVTable:
    """A row for each prediction, under the names of the columns; no cell is a spreadsheet's formula.

    A prediction with lists, the items of a user for example, has a row for each of their entries.
    """

    def __init__(self, file: TextIO) -> None:
        self.writer, self.started = csv.writer(file, lineterminator="\n"), False

    def add(self, batch: Predictions) -> None:
        columns = _join_columns(batch)
        if not self.started:
            self.writer.writerow(map(csv_cell, columns))
            self.started = True
        rows: Iterable[Sequence[Any]] = zip(*columns.values(), strict=True)
        if any(isinstance(column[0], list) for column in columns.values()):
            rows = chain.from_iterable(map(_spread_lists, rows))
        self.writer.writerows([_cell(value) for value in row] for row in rows)


class JSONLines:
    """An object for each prediction, on a line of its own."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def add(self, batch: Predictions) -> None:
        columns = _join_columns(batch)
        for row in zip(*columns.values(), strict=True):
            content = {name: _round(value) for name, value in zip(columns, row, strict=True)}
            self.file.write(json.dumps(content, ensure_ascii=False) + "\n")


def _join_columns(batch: Predictions) -> Columns:
    """All columns of a batch; p(name) is a predicted one with the name of another column."""
    columns: Columns = {name: [row[name] for row in batch.id_columns] for name in batch.id_columns[0]}
    for name, values in batch.columns.items():
        columns[f"p({name})" if name in columns else name] = values
    return columns


def _spread_lists(row: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """A row for each entry of the lists in a row; one with empty cells where the lists are empty."""
    count = max(len(value) for value in row if isinstance(value, list))
    lists = [(value or [""]) if isinstance(value, list) else [value] * max(1, count) for value in row]
    return zip(*lists, strict=True)


def _cell(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else csv_cell(value)


def _round(value: Any) -> Any:
    """Floats with as many digits as 32 bits hold."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _round(part) for key, part in value.items()}
    return [_round(part) for part in value] if isinstance(value, list) else value


TABLES: dict[str, type[CSVTable] | type[JSONLines]] = {"csv": CSVTable, "jsonl": JSONLines}


def write(
    file: TextIO, form: str, predictions: Iterable[Predictions], *, quiet: bool, folders: PredictionFolders
) -> int:
    """Write batch after batch and return how many predictions there were; unless `quiet`, show a few."""
    from rich.console import Console
    from rich.progress import track

    from train_smarter.terminal import echo

    console, table = Console(stderr=True), TABLES[form](file)
    done, few = 0, list[str]()
    hidden = quiet or not console.is_terminal
    for batch in track(predictions, "predicting", console=console, transient=True, disable=hidden):
        complete = folders.write(batch)
        table.add(complete)
        file.flush()
        done += len(batch)
        few += _preview(complete) if len(few) <= PREVIEW_ROWS else []
    if not quiet and done <= PREVIEW_ROWS:
        for line in few:
            echo(line)
    return done


def _preview(batch: Predictions) -> list[str]:
    """A line for each of a few predictions: their first columns, and what names them."""
    from train_smarter.terminal import format_metric

    lines = []
    for i, row in enumerate(batch.id_columns[: PREVIEW_ROWS + 1]):
        values = [column[i] for column in list(batch.columns.values())[:PREVIEW_COLUMNS]]
        cells = [format_metric(value) if isinstance(value, float) else _spell(value) for value in values]
        lines.append(escape_controls("  ".join([*cells, " ".join(map(str, row.values()))])))
    return lines


def _spell(value: Any) -> str:
    """A value, or the first ones of a list."""
    if not isinstance(value, list):
        return str(value)
    return ", ".join(map(str, value[:PREVIEW_ENTRIES])) + (", ..." if len(value) > PREVIEW_ENTRIES else "")


class PredictionFolders:
    """Files beside a table of predictions, in a folder for each kind, for example `masks`.

    They get their place in `publish`; until then an earlier prediction's files are left alone.

    Args:
        table: the file of the predictions; None: standard output, and no files are written.
        prefix: of the folders' names.
    """

    def __init__(self, table: Path | None, *, prefix: str = "") -> None:
        self.table, self.prefix = table, prefix
        self.folders: dict[str, Path] = {}  # by column
        self.taken: set[str] = set()  # names of files
        self.stems: Counter[str] = Counter()  # the number that the next file of that name may get
        self.left_out: dict[str, int] = {}  # files that were not written, by column

    def write(self, batch: Predictions) -> Predictions:
        """Write the files of a batch and return it with the columns that name them, in front."""
        named: Columns = {}
        stems = [self._stem(row) for row in batch.id_columns] if batch.files and self.table else []
        for key, contents in batch.files.items():
            column, _, extension = key.rpartition(".")
            if self.table is None:
                self.left_out[column] = self.left_out.get(column, 0) + len(contents)
                continue
            folder = self._folder(column)
            named[column] = [f"{folder.name}/{stem}.{extension}" for stem in stems]
            for stem, content in zip(stems, contents, strict=True):
                file = _part(folder) / f"{stem}.{extension}"
                with naming(file):
                    file.write_bytes(content)
        return replace(batch, columns={**named, **batch.columns})

    def _folder(self, column: str) -> Path:
        if column not in self.folders:
            assert self.table is not None
            folder = self.table.parent / f"{self.prefix}{column}s"
            if self.prefix and folder.exists() and not self.table.exists():  # not of an earlier prediction
                raise UserError(f"{folder} exists, and its files would be lost: give another output=...")
            _remove(_part(folder))
            _part(folder).mkdir(parents=True)
            self.folders[column] = folder
        return self.folders[column]

    def _stem(self, id_columns: dict[str, Any]) -> str:
        """A file name of its own for an example: its index, its line, or the name of its file."""
        number = id_columns.get("index", id_columns.get("line"))
        given = str(number) if number is not None else Path(str(id_columns.get("input", ""))).stem
        stem = re.sub(r"[^\w.-]+", "_", given)[:MAX_STEM].strip(".") or "input"
        first = self.stems[stem.casefold()]  # on some systems, a.png is A.png
        names = (f"{stem}_{number}" if number else stem for number in count(first))
        number, unique = next((i, name) for i, name in enumerate(names, first) if name.casefold() not in self.taken)
        self.stems[stem.casefold()] = max(2, number + 1)
        self.taken.add(unique.casefold())
        return unique

    def publish(self) -> None:
        """Put the folders in their place; those of an earlier prediction are removed."""
        for folder in self.folders.values():
            _remove(folder)
            _part(folder).rename(folder)

    def discard(self) -> None:
        """Remove what `publish` has not put in its place."""
        for folder in self.folders.values():
            _remove(_part(folder))


def _part(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.part")


def _remove(path: Path) -> None:
    """Remove a folder, or a link in its place, which is not followed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextmanager
def open_output(output: Path | None) -> Iterator[TextIO]:
    """The file to write, which stands under its name when it is whole; or standard output.

    Raises:
        UserError: it cannot be written.
    """
    if output is None:
        with _open_stdout() as file:
            yield file
        return
    try:
        with (
            atomic_file(output) as part,
            part.open("w", encoding="utf8", errors="backslashreplace", newline="") as file,
        ):
            yield file
    except OSError as error:
        raise file_error(error, path=output) from error


@contextmanager
def _open_stdout() -> Iterator[TextIO]:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf8", errors="backslashreplace", newline="")
    try:
        yield sys.stdout
    except BrokenPipeError:  # whoever reads has read enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be written at the end
        sys.exit(141)  # as of a program that this has stopped
