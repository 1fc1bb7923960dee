"""Your own interactions: files with a row for each time that a user used an item. Imports torch when it reads."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from train_smarter.data.cells import NA_VALUES, number_cells, to_numbers
from train_smarter.data.table_file import StringTable, expand_files, read_table, shorten
from train_smarter.data.table_source import DATE
from train_smarter.errors import UserError

if TYPE_CHECKING:
    from train_smarter.data.interactions import Interactions

# Usual names of each column, without case, marks and what follows a colon.
USUAL_NAMES = {
    "user": ("user", "userid", "uid", "username", "customer", "customerid", "visitorid", "sessionid", "member"),
    "item": (
        *("item", "itemid", "iid", "movieid", "movie", "productid", "product", "asin", "sku", "articleid", "article"),
        *("bookid", "isbn", "songid", "song", "trackid", "track", "artistid", "artist", "businessid", "gameid"),
    ),
    "value": ("rating", "value", "score", "stars", "overall", "bookrating"),
    "time": ("timestamp", "time", "date", "datetime", "unixreviewtime", "reviewtime"),
    "title": ("title", "itemtitle", "movietitle", "booktitle", "itemname", "productname"),
}
NO_COLUMN = "none"  # typed in place of a column that the file has, and that is not to be used


@dataclass(frozen=True)
class InteractionFiles:
    """Files of interactions, as a user names them under `data`.

    file: a file, a glob, or a list of them.
    user, item, value, time, title: names of columns; None: by a usual name, if there is one; "none": not used.
    """

    file: str | Sequence[str]
    user: str | None = None
    item: str | None = None
    value: str | None = None
    time: str | None = None
    title: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    na_values: Sequence[str] = NA_VALUES
    decimal_comma: bool = False

    def stamp(self) -> str:
        """Changes when a setting or a file does."""
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in expand_files(self.file)]
        return json.dumps([vars(self), files], default=str)

    def read(self) -> "tuple[Interactions, list[str]]":
        """The interactions of complete rows, in the order of the files, and lines for the log.

        Raises:
            UserError: a column is missing, a value is no number, a time is none, or no row is complete.
        """
        import pyarrow.compute as pc
        import torch

        from train_smarter.data.interactions import Interactions, index_ids

        table = read_table(self.file, delimiter=self.delimiter, encoding=self.encoding)
        names = self._find_columns(table)
        cells = {role: table.column(name) for role, name in names.items() if role in ("user", "item", "title")}
        numbers = {
            role: self._read_numbers(table, role, name) for role, name in names.items() if role in ("value", "time")
        }
        missing = {names[role]: pc.is_null(cells[role]).to_numpy() for role in ("user", "item")}
        missing |= {names[role]: np.isnan(column) for role, column in numbers.items()}
        rows = np.flatnonzero(~np.any(list(missing.values()), axis=0))
        notes = [table.describe(), ", ".join(f"{role}: column {name!r}" for role, name in names.items())]
        notes += _count_missing(table, missing, rows)
        ids = {role: index_ids(cells[role].take(rows)) for role in ("user", "item")}
        times = numbers.get("time")
        interactions = Interactions(
            users=ids["user"][0],
            items=ids["item"][0],
            values=torch.from_numpy(numbers["value"][rows]).float() if "value" in numbers else None,
            times=None if times is None else torch.from_numpy(times[rows]),
            user_names=ids["user"][1],
            item_names=ids["item"][1],
            item_titles=_read_titles(cells["title"].take(rows), *ids["item"]) if "title" in cells else None,
        )
        return interactions, notes

    def _find_columns(self, table: StringTable) -> dict[str, str]:
        """The name of each column that is used."""
        found: dict[str, str] = {}
        for role, usual in USUAL_NAMES.items():
            given = getattr(self, role)
            if given is not None and str(given) != NO_COLUMN:
                table.require([str(given)], f"data.{role}")
                found[role] = str(given)
            elif given is None and (known := usual_column(table.names, usual, found)):
                found[role] = known
        if absent := [role for role in ("user", "item") if role not in found]:
            raise UserError(
                f"{table.where}: no column has a usual name for the {' and the '.join(absent)}: type "
                f"{' '.join(f'data.{role}=<column>' for role in absent)}; it has {shorten(table.known)}"
            )
        if len(set(found.values())) < len(found):
            twice = next(name for name in found.values() if list(found.values()).count(name) > 1)
            both = [f"data.{role}" for role, name in found.items() if name == twice]
            raise UserError(f"{' and '.join(both)} are both the column {twice!r}: give another one for one of them")
        return found

    def _read_numbers(self, table: StringTable, role: str, name: str) -> NDArray[np.float64]:
        """(N,), NaN where a cell is empty; of dates, the seconds since 1970."""
        cells = number_cells(table, name, self.na_values, decimal_comma=self.decimal_comma)
        texts = cells.drop_null()
        if role == "time" and len(texts) and re.match(DATE, texts[0].as_py()):
            return _read_dates(table, name, cells)
        numbers: NDArray[np.float64] = to_numbers(table, name, cells)
        return numbers


def usual_column(
    names: Sequence[str], usual: Sequence[str], found: Mapping[str, str] = MappingProxyType({})
) -> str | None:
    """The column with the first of the usual names that is not one of those found, by role."""
    spelled = {re.sub(r":.*|[\W_]", "", name.lower()): name for name in reversed(names)}
    return next((spelled[name] for name in usual if name in spelled and spelled[name] not in found.values()), None)


def _read_dates(table: StringTable, name: str, cells: Any) -> NDArray[np.float64]:
    texts = cells.to_pylist()
    for row, text in enumerate(texts):
        if text is not None and not re.match(DATE, text):
            raise table.error(row, name, f"{text!r} is no date like 2024-12-31, as the first one is")
    try:
        dates = np.array([text and re.sub(r"(Z|[+-]\d\d:?\d\d)$", "", text) for text in texts], dtype="datetime64[ms]")
    except ValueError as error:
        raise UserError(f"{table.where}, column {name!r}: {error}; give dates like 2024-12-31 or numbers") from error
    return np.where(np.isnat(dates), np.nan, dates.astype(np.int64) / 1000)


def _count_missing(table: StringTable, missing: Mapping[str, Any], rows: NDArray[np.int64]) -> list[str]:
    """A line on the rows that are left out.

    Raises:
        UserError: all are.
    """
    counts = {name: int(of.sum()) for name, of in missing.items() if of.any()}
    spelled = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    if not len(rows):
        raise UserError(
            f"{table.where}: each row has an empty cell ({spelled}); type data.time=none, say, to do without"
        )
    left_out = len(table) - len(rows)
    return [f"{left_out:,} rows with an empty cell are left out: {spelled}"] if left_out else []


def _read_titles(cells: Any, items: Any, names: Sequence[str]) -> list[str]:
    """The first title of each item; its id where it has none."""
    titles: list[str | None] = [None] * len(names)
    for item, title in zip(items.tolist(), cells.to_pylist(), strict=True):
        titles[item] = titles[item] or title
    return [title or name for title, name in zip(titles, names, strict=True)]


_LAST: "dict[str, tuple[Interactions, list[str]]]" = {}  # what was read last, by `InteractionFiles.stamp`


def read_files(files: InteractionFiles) -> "tuple[Interactions, list[str]]":
    """`InteractionFiles.read`; files that a config has just counted are not read again."""
    key = files.stamp()
    if key not in _LAST:
        found = files.read()
        _LAST.clear()
        _LAST[key] = found
    return _LAST[key]


def pop_files(settings: dict[str, Any]) -> InteractionFiles:
    """Take the arguments of `InteractionFiles` out of those of a data set."""
    given = {each.name: settings.pop(each.name) for each in fields(InteractionFiles) if each.name in settings}
    if not given.get("file"):
        raise UserError("data.file has no value yet: type data.file=..., CSV, TSV, JSONL or Parquet")
    file = given["file"]
    na_values = {"na_values": [str(value) for value in given["na_values"]]} if "na_values" in given else {}
    return InteractionFiles(**{**given, **na_values, "file": file if isinstance(file, str) else list(file)})


def count_names(settings: Mapping[str, Any]) -> dict[str, int]:
    """How many users and items the files have: `num_users` and `num_items`."""
    found, _ = read_files(pop_files(dict(settings)))
    return {"num_users": found.num_users, "num_items": found.num_items}
