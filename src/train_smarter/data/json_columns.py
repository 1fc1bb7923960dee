"""What the cells of a JSON column are: plain values, lists of numbers, or lists of labels. Imports no torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any


class JsonNumber(str):
    """A number as it is spelled in the file."""


PLAIN = {NoneType, str, JsonNumber, bool}
TEXT, LABELS = ("text", 0), ("labels", 0)


@dataclass
class ColumnNames:
    """The columns of one or several files.

    known: their names in the files, in their order.
    parts: of a column of lists of numbers, the columns of its places: x.0, x.1, ...
    labels: columns of lists of texts, whose cells are JSON.
    unusable: why a column cannot be used.
    keep_lists: a cell with a list is JSON, whatever the list holds.
    """

    known: dict[str, None] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    unusable: dict[str, str] = field(default_factory=dict)
    keep_lists: bool = False
    _kinds: dict[str, tuple[tuple[str, int], str]] = field(default_factory=dict)  # what a cell holds, and its place

    def wanted(self, columns: Sequence[str] | None) -> list[str]:
        """The names that are read where `columns` or some of their parts are; None: all."""
        if columns is None:
            return [*self.known]
        names = {*columns, *(column.rpartition(".")[0] for column in columns)}
        return [name for name in self.known if name in names]

    def usable(self, table: Any) -> Any:
        """A pyarrow.Table without the columns that cannot be used."""
        bad = [part for name in self.unusable for part in self.parts.get(name, [name])]
        return table.drop_columns([name for name in table.column_names if name in bad])

    def add(self, name: str, cells: Sequence[Any], places: Sequence[str]) -> dict[str, list[str | None]]:
        """The next cells of a column as columns of texts: itself, or its parts.

        Args:
            places: of each cell, for messages.
        """
        types = set(map(type, cells))
        if types == {NoneType}:
            return {}
        if types <= PLAIN and self._kinds.setdefault(name, (TEXT, places[0]))[0] == TEXT:
            return {name: [_text(cell) for cell in cells]}
        if self.keep_lists and types <= {*PLAIN, list}:
            return {name: [_dump(cell) if isinstance(cell, list) else _text(cell) for cell in cells]}
        for cell, place in zip(cells, places, strict=True):
            if cell is not None:
                self._judge(name, _kind(cell), place)
        kind, width = self._kinds[name][0]
        if name in self.unusable:
            return {}
        if kind == "labels":
            self.labels.add(name)
            return {name: [None if cell is None else _dump(cell) for cell in cells]}
        self.parts[name] = [f"{name}.{place}" for place in range(width)]
        rows = [cell or [None] * width for cell in cells]
        return {part: [_text(row[place]) for row in rows] for place, part in enumerate(self.parts[name])}

    def _judge(self, name: str, kind: tuple[str, int], place: str) -> None:
        """Note what a cell holds; a column holds one kind."""
        first, where = self._kinds.setdefault(name, (kind, place))
        if kind[0] not in ("text", "numbers", "labels"):
            self.unusable.setdefault(name, f"{place} holds {_describe(kind)}")
        elif kind != first:
            self.unusable.setdefault(
                name,
                f"{place} holds {_describe(kind)}, but {where} {_describe(first)}: give every row a list of numbers of "
                "one length, or a list of texts",
            )


def _kind(cell: Any) -> tuple[str, int]:
    """What a cell holds, and of a list of numbers how many."""
    if not isinstance(cell, list):
        return TEXT if type(cell) in PLAIN else ("an object", 0)
    types = set(map(type, cell))
    if types <= {str}:
        return LABELS
    return ("numbers", len(cell)) if types <= {JsonNumber, bool, NoneType} else ("a list of different things", 0)


def _describe(kind: tuple[str, int]) -> str:
    words = {
        "text": "one value",
        "labels": "a list of texts, or an empty one",
        "numbers": f"a list of {kind[1]} number{'s' * (kind[1] != 1)}",
    }
    return words.get(*kind[:1], kind[0])


def _dump(cell: Any) -> str:
    return json.dumps(cell, ensure_ascii=False)


def _text(value: Any) -> str | None:
    return str(value).lower() if isinstance(value, bool) else value
