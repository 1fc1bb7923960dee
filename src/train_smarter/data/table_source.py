"""A user's own files with a row an example: which rows there are, their targets, and the split of each.

Imports no torch: a config counts its classes by it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from train_smarter.data import text_folders
from train_smarter.data.cells import NA_VALUES, is_number_column, number_cells, to_numbers
from train_smarter.data.table_file import ACCEPTED, StringTable, expand_files, read_table, shorten
from train_smarter.data.target_columns import Targets, read_targets
from train_smarter.errors import UserError

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
DATE = r"^\d{4}-\d{2}(-\d{2}([T ].*)?)?$"


@dataclass(frozen=True)
class TableSource:
    """Files with a row an example, as a user names them under `data`.

    file, val_file, test_file: a file, a glob, or a list of them. Without a separate file, or `split_column`,
        validation and test are cut from `file`.
    target: the column or columns of the targets; none: there are no targets.
    target_type: classes, numbers or labels; None: by what the columns hold.
    split_column: holds train, val or test.
    group: a column; rows with the same value are never divided between splits.
    time: a column of dates or numbers; the latest rows are the test split, those before them validation.
    """

    file: str | Sequence[str]
    val_file: str | Sequence[str] | None = None
    test_file: str | Sequence[str] | None = None
    target: Sequence[str] = ()
    target_type: str | None = None
    split_column: str | None = None
    group: str | None = None
    time: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    na_values: Sequence[str] = NA_VALUES
    decimal_comma: bool = False

    def __post_init__(self) -> None:
        official = [key for key in ("val_file", "test_file") if getattr(self, key)]
        for one, others in (("split_column", official), ("time", [*official, "split_column"])):
            if getattr(self, one) and (both := [key for key in others if getattr(self, key)]):
                raise UserError(f"data.{one} and data.{both[0]} both say which rows are which split: give one of them")
        if self.time and self.group:
            raise UserError("data.time and data.group exclude each other: give one of them")

    @property
    def role_columns(self) -> list[str]:
        """Columns that are no input: of the targets and of the split."""
        return [*self.target, *(name for name in (self.split_column, self.group, self.time) if name)]

    def paths(self) -> dict[str, list[Path]]:
        """The files of each split."""
        named = {"train": self.file, "val": self.val_file, "test": self.test_file}
        keys = {"train": "data.file", "val": "data.val_file", "test": "data.test_file"}
        found = {split: expand_files(given, keys[split]) for split, given in named.items() if given}
        files = [file.resolve() for part in found.values() for file in part]
        if repeated := [file for file in files if files.count(file) > 1]:
            several = f", for {' and '.join(keys[split] for split in found)}" if len(found) > 1 else ""
            raise UserError(f"{repeated[0]} is named twice{several}: its rows would be repeated")
        return found

    def stamp(self) -> list[list[Any]]:
        """What changes when a file does, as JSON values: path, size and time of each."""
        files = [file for files in self.paths().values() for file in files]
        return [[str(file), *_state(file)] for file in files]

    def read(self, columns: Sequence[str] | None = None) -> "SplitTable":
        """Read the files, and the split of each row.

        Args:
            columns: those that are read, in addition to `role_columns`; None: all.
        """
        paths = self.paths()
        table = read_table(
            [str(file) for files in paths.values() for file in files],
            columns=None if columns is None else [*columns, *self.role_columns],
            delimiter=self.delimiter,
            encoding=self.encoding,
        )
        for key in ("split_column", "group", "time"):
            table.require([name] if (name := getattr(self, key)) else [], f"data.{key}")
        files = [split for split, files in paths.items() for _ in files]
        number = [SPLITS.index(split) for split in files]
        split = np.repeat(np.array(number, dtype=np.int8), [part.rows for part in table.parts])
        if self.split_column:
            split = _read_split_column(table, self.split_column)
        return SplitTable(self, table, split, official=self.split_column is not None or len(paths) > 1)

    def read_targets(self, table: StringTable, names: Sequence[str] = ()) -> Targets:
        """The targets; of all rows, without values, where no column is named."""
        if not self.target:
            if self.target_type:
                raise UserError(f"data.target=null, but the task needs {self.target_type}: type data.target=...")
            return Targets("none", [], None, np.arange(len(table)))
        return read_targets(
            table,
            self.target,
            kind=self.target_type,
            names=names,
            na_values=self.na_values,
            decimal_comma=self.decimal_comma,
        )


def _state(file: Path) -> list[int]:
    return text_folders.stamp(file) if file.is_dir() else [file.stat().st_size, file.stat().st_mtime_ns]


def _read_split_column(table: StringTable, name: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    place = {word: SPLITS.index(split) for split, words in SPLIT_WORDS.items() for word in words}
    cells = table.column(name)
    for cell in pc.unique(cells).to_pylist():
        if cell is None or cell.lower() not in place:
            row = int(pc.index(cells.is_null() if cell is None else cells, pa.scalar(cell or True)).as_py())
            raise table.error(row, name, f"{cell or ''!r} is no split: give train, val or test in every row")
    encoded = pc.dictionary_encode(cells).combine_chunks()
    splits = np.array([place[cell.lower()] for cell in encoded.dictionary.to_pylist()], dtype=np.int8)
    if 0 not in splits:
        raise UserError(f"data.split_column={name}: no row is of train")
    return splits[encoded.indices.to_numpy()]


@dataclass(frozen=True)
class SplitTable:
    """A table with the split of each row.

    split: (N,) int8, places in SPLITS; all 0 where everything is cut from train.
    official: the files or a column say which rows are validation or test.
    notes: lines for the log.
    """

    source: TableSource
    table: StringTable
    split: Any
    official: bool
    notes: list[str] = field(default_factory=list)

    def rows_of(self, split: str, rows: Any) -> Any:
        """The places in `rows` (M,) of the examples of a split."""
        return np.flatnonzero(self.split[rows] == SPLITS.index(split))

    def check_classes(self, targets: Targets) -> None:
        """Raise a UserError if a class has no example in train, where validation or test were not cut from it."""
        if targets.kind != "classes" or not self.official:
            return
        present = np.bincount(targets.values[self.rows_of("train", targets.rows)], minlength=len(targets.names))
        if (absent := np.flatnonzero(present == 0)).size:
            row = int(targets.rows[np.flatnonzero(targets.values == absent[0])[0]])
            raise self.table.error(
                row, self.source.target[0], f"{targets.names[absent[0]]!r} is no class of any row of train"
            )

    def cut_by_time(self, rows: Any, *, test_fraction: float, val_fraction: float) -> "SplitTable":
        """The same with the latest of `rows` as test, and those before them as validation."""
        assert self.source.time is not None
        times, spelled = self._times(rows)
        split = self.split.copy()
        for name, fraction in (("test", test_fraction), ("val", val_fraction)):
            rest = np.flatnonzero(split[rows] == 0)
            first = _first_of_latest(times[rest], fraction)
            if first is None:
                raise UserError(
                    f"data.time={self.source.time}: too few different times to cut {name} off, {len(np.unique(times))}"
                )
            split[rows[rest[times[rest] >= first]]] = SPLITS.index(name)
            self.notes.append(f"{name}: the rows from {self.source.time} {spelled[first]} on")
        return SplitTable(self.source, self.table, split, True, self.notes)

    def _times(self, rows: Any) -> tuple[Any, list[str]]:
        """The rank of the time of each row (M,), and how each rank is spelled."""
        import pyarrow as pa

        name = str(self.source.time)
        cells = number_cells(self.table, name, ())
        if (empty := np.flatnonzero(cells.is_null().to_numpy())).size:
            raise self.table.error(int(empty[0]), name, "no time: fill it, or remove the row")
        if is_number_column(self.table, name, cells, as_texts="another data.time=..."):
            found, ranks = np.unique(to_numbers(self.table, name, cells)[rows], return_inverse=True)
            return ranks, [f"{time:g}" for time in found]
        texts = cells.to_pylist()
        wrong = next((row for row, text in enumerate(texts) if not re.match(DATE, text)), None)
        if wrong is not None:
            raise self.table.error(wrong, name, f"{texts[wrong]!r} is neither a number nor a date like 2024-12-31")
        encoded = pa.array([texts[row] for row in rows]).dictionary_encode()
        found = encoded.dictionary.to_pylist()
        order = np.argsort(np.array(found))
        ranks = np.empty(len(found), dtype=np.int64)
        ranks[order] = np.arange(len(found))
        return ranks[encoded.indices.to_numpy()], [found[place] for place in order]

    def groups(self, rows: Any) -> Any:
        """The group of each of `rows`, (M,) int64; None: there are none."""
        import pyarrow.compute as pc

        if not self.source.group:
            return None
        encoded = pc.dictionary_encode(self.table.column(self.source.group)).combine_chunks()
        groups = encoded.indices.fill_null(-1).to_numpy()[rows].astype(np.int64)
        if (missing := np.flatnonzero(groups < 0)).size:
            raise self.table.error(int(rows[missing[0]]), self.source.group, "no group: fill it, or remove the row")
        self._reject_divided(groups, rows)
        self.notes.append(f"{len(np.unique(groups))} groups by {self.source.group}, none of them divided")
        return groups

    def _reject_divided(self, groups: Any, rows: Any) -> None:
        """Raise a UserError if the files or the column of the splits divide a group."""
        found, first = np.unique(groups, return_index=True)
        split = self.split[rows]
        home = split[first][np.searchsorted(found, groups)]  # the split of the first row of each group
        if (divided := np.flatnonzero(split != home)).size:
            row = int(divided[0])
            group, one, other = self.source.group, SPLITS[home[row]], SPLITS[split[row]]
            name = self.table.column(str(group))[int(rows[row])].as_py()
            raise self.table.error(
                int(rows[row]),
                str(group),
                f"{name!r} is in {other}, and in {one}, too: correct it, or type data.group=null",
            )


def _first_of_latest(times: Any, fraction: float) -> int | None:
    """The rank from which about `fraction` of the times are; rows of one time stay together. None: all are one."""
    ordered = np.sort(times)
    first = int(ordered[min(len(ordered) - 1, round(len(ordered) * (1 - fraction)))])
    later = ordered[ordered > ordered[0]]
    return max(first, int(later[0])) if len(later) else None


def count_targets(settings: Mapping[str, Any]) -> dict[str, int | None]:
    """How many classes or labels, and how many numbers, an example has: `num_classes` and `num_targets`.

    Args:
        settings: of a data set; those that `TableSource` has not are passed over.
    """
    files = pop_source(dict(settings))
    key = json.dumps([vars(files), files.stamp()], default=str, sort_keys=True)
    if key not in _COUNTED:
        targets = files.read_targets(files.read([]).table)
        count = len(targets.names)
        _COUNTED[key] = {
            "num_classes": count if targets.kind in ("classes", "labels") else None,
            "num_targets": count if targets.kind == "numbers" else None,
        }
    return _COUNTED[key]


_COUNTED: dict[str, dict[str, int | None]] = {}  # by settings and the state of the files


def pop_source(settings: dict[str, Any]) -> TableSource:
    """Take the arguments of `TableSource` out of those of a data set."""
    given = {each.name: settings.pop(each.name) for each in fields(TableSource) if each.name in settings}
    if not given.get("file"):
        raise UserError(f"data.file has no value yet: type data.file=..., {ACCEPTED}")
    names = {key: None if given.get(key) is None else str(given[key]) for key in ("split_column", "group", "time")}
    na_values = {"na_values": as_names(given["na_values"])} if "na_values" in given else {}
    return TableSource(**{**given, **names, **na_values, "target": as_names(given.get("target"))})


def left_out_note(table: StringTable, rows: Any, columns: Sequence[str], what: str) -> list[str]:
    """A line with how many rows are not used, and where the first one is; none where all are."""
    if len(rows) == len(table):
        return []
    first = int(np.setdiff1d(np.arange(len(table)), rows, assume_unique=True)[0])
    count = len(table) - len(rows)
    return [f"rows left out, without {what} ({shorten(columns)}): {count}, the first is {table.place(first)}"]


def as_names(given: str | int | Sequence[str | int] | None) -> list[str]:
    """Names of columns, of which one may be typed alone; a number is one, too."""
    if given is None:
        return []
    return [str(name) for name in given] if isinstance(given, Sequence) and not isinstance(given, str) else [str(given)]
