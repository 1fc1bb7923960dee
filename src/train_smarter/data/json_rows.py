"""Read JSON objects, one a line or in one list, as texts: a number as it is spelled. Imports no torch."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from train_smarter.data.delimited import open_bytes
from train_smarter.data.json_columns import ColumnNames, JsonNumber
from train_smarter.errors import UserError

JSON_BLOCK = 20_000  # rows that are Python objects at a time


def read_json(path: Path, names: ColumnNames, columns: Sequence[str] | None) -> Any:
    """A pyarrow.Table of texts; a list of numbers is a column for each place, see `ColumnNames`."""
    import pyarrow as pa

    blocks: list[Any] = []
    rows = iter(_json_rows(path))
    while block := [*islice(rows, JSON_BLOCK)]:
        places = [place for place, _ in block]
        names.known |= {name: None for _, row in block for name in row}
        cells: dict[str, Any] = {}
        for name in names.wanted(columns):
            cells |= names.add(name, [row.get(name) for _, row in block], places)
        texts = {name: pa.array(column, pa.string()) for name, column in cells.items()}
        # A column that is empty here is filled when the blocks are put together; there may be no other one.
        blocks.append(pa.table(texts or {"": pa.nulls(len(block), pa.string())}))
    if not blocks:
        return pa.table({})
    table = pa.concat_tables(blocks, promote_options="default")
    return _arrange(table, names, columns)


def _arrange(table: Any, names: ColumnNames, columns: Sequence[str] | None) -> Any:
    """The columns in the order of the file: those that are empty in every row, too, and none that cannot be used."""
    import pyarrow as pa

    wanted = [name for name in names.wanted(columns) if name not in names.unusable]
    parts = [part for name in wanted for part in names.parts.get(name, [name])]
    empty = pa.nulls(table.num_rows, pa.string())
    return pa.table({part: table.column(part) if part in table.column_names else empty for part in parts})


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file, one a line, or those of one list, each with its place.

    Raises:
        UserError: a line is no JSON, or no object.
    """
    with open_bytes(path) as file:
        for number, line in enumerate(_decoded(path, file), start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            if line.lstrip()[:1] == "[":  # the whole file is a list
                objects = _parse_json(line + "".join(_decoded(path, file)), place)
                places = (f"{path}, row {row}" for row in range(1, len(objects) + 1))
                yield from ((place, _json_cells(each, place)) for each, place in zip(objects, places, strict=True))
                return
            yield place, _json_cells(_parse_json(line, place), place)


def _decoded(path: Path, lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {number} is not UTF-8, as JSON has to be") from error


def _parse_json(text: str, place: str) -> Any:
    """Numbers as they are spelled."""
    try:
        return json.loads(text, parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=JsonNumber)
    except ValueError as error:
        raise UserError(f"{place}: no JSON object a line ({error})") from error


def _json_cells(content: Any, place: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        kind = "number" if isinstance(content, JsonNumber) else type(content).__name__
        raise UserError(f"{place}: no JSON object, {{'column': value, ...}}, but a {kind}")
    return {name.strip(): value for name, value in content.items()}


def json_place(path: Path, row: int) -> str:
    """The file with the line of a row, or with its number in one list."""
    return next(islice((place for place, _ in _json_rows(path)), row, None))
