"""Read JSON objects, one a line or in one list, as texts: a number as it is spelled. Imports no torch."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from train_smarter.data.delimited import open_bytes
from train_smarter.errors import UserError

JSON_BLOCK = 20_000  # rows that are Python objects at a time


def read_json(path: Path, known: dict[str, bool], columns: Sequence[str] | None) -> Any:
    import pyarrow as pa

    blocks: list[Any] = []
    rows = iter(_json_rows(path))
    while block := [row for _, row in islice(rows, JSON_BLOCK)]:
        known |= {name: True for row in block for name in row}
        names = [name for name in known if columns is None or name in columns]
        blocks.append(pa.table({name: pa.array([row.get(name) for row in block], pa.string()) for name in names}))
    return pa.concat_tables(blocks, promote_options="default") if blocks else pa.table({})


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The objects of a file, one a line, with the line; or those of one list, with their number.

    Raises:
        UserError: a line is no JSON, or no object.
    """
    with open_bytes(path) as file:
        for number, line in enumerate(_decoded(path, file), start=1):
            if not line.strip():
                continue
            if line.lstrip()[:1] == "[":  # the whole file is a list
                objects = _parse_json(line + "".join(_decoded(path, file)), f"{path}, line {number}")
                yield from ((place, _json_cells(each, f"{path}, row {place}")) for place, each in enumerate(objects, 1))
                return
            place = f"{path}, line {number}"
            yield number, _json_cells(_parse_json(line, place), place)


def _decoded(path: Path, lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {number} is not UTF-8, as JSON has to be") from error


def _parse_json(text: str, place: str) -> Any:
    """Numbers as they are spelled."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except ValueError as error:
        raise UserError(f"{place}: no JSON object a line ({error})") from error


def _json_cells(content: Any, place: str) -> dict[str, str | None]:
    if not isinstance(content, dict):
        raise UserError(f"{place}: no JSON object, {{'column': value, ...}}, but a {type(content).__name__}")
    return {name.strip(): _json_text(value) for name, value in content.items()}


def _json_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def json_line(path: Path, row: int) -> int:
    return next(islice((number for number, _ in _json_rows(path)), row, None))
