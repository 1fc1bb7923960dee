"""Files of a run, written atomically: JSON, and CSV one row at a time."""

import csv
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from train_smarter.errors import UserError, file_error
from train_smarter.sanitize import csv_cell

# ---- what a run writes


def write_json(path: Path, content: Any) -> None:
    """A whole file, as `atomic_write`."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # A row of numbers on one line.
    text = re.sub(r"\[\n\s+([\d,\s.e+-]+?)\n\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text)
    atomic_write(path, text + "\n")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have the file system's refusals in the block name the file: `write` knows none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_file(path: Path, suffix: str = ".part", *, make_folder: bool = True) -> Iterator[Path]:
    """Yield a new path next to `path`. Its file replaces `path` if the block succeeds, and is removed otherwise.

    A reader never sees half of a file. A link at `path`, in a stranger's folder say, is replaced and not followed.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}{suffix}")
    part.unlink(missing_ok=True)
    try:
        with naming(path):
            yield part
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def atomic_write(path: Path, text: str) -> None:
    """Write a whole text file, or nothing."""
    with atomic_file(path) as part, part.open("x", encoding="utf8") as file:
        file.write(text)


def append_row(path: Path, row: Mapping[str, Any], *, more_columns: bool = False) -> None:
    """Adds a row to a CSV file; the first row decides the columns, unless later ones may bring more."""
    new = not path.exists()
    row = {csv_cell(name): csv_cell(value) for name, value in row.items()}
    columns = list(row) if new else path.read_text(encoding="utf8").partition("\n")[0].split(",")
    if more_columns and (added := [name for name in row if name not in columns]):
        _add_columns(path, added)
        columns += added
    with naming(path), path.open("a", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def _add_columns(path: Path, names: list[str]) -> None:
    rows = read_csv(path)
    with atomic_file(path) as part:
        for row in rows:
            append_row(part, row | dict.fromkeys(names, ""))


def truncate_csv(path: Path, epoch: int) -> None:
    """Takes the rows of `epoch` and all later ones out of a run's metrics.csv: the run does them again."""
    kept = [row for row in read_csv(path) if int(row["epoch"]) < epoch]
    if not kept:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as part:
        for row in kept:
            append_row(part, row)


# ---- what is read from a run's folder: it may be damaged, or a stranger's


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} {why}; to do without it, move it away: mv {shlex.quote(str(path))} {path.name}.damaged")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} holds no {path.name}: is it a run folder, and did the run get that far?"
        ) from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or without end
        raise damaged(path, f"is not readable JSON: {error}") from error
    except OSError as error:
        raise file_error(error) from error


def read_dict(path: Path, kinds: Mapping[str, type | tuple[type, ...]] | None = None) -> dict[str, Any]:
    """A JSON file that holds values by name.

    Args:
        kinds: what a value has to be, where there is one of that name; null is always accepted.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise damaged(path, "holds no names and values")
    for name, kind in (kinds or {}).items():
        if content.get(name) is not None and not isinstance(content[name], kind):
            raise damaged(path, f"is damaged: its {name} is {content[name]!r:.60}")
    return content


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv or layers.csv that are whole; of a run that was killed, the last one may not be.

    Raises:
        UserError: there is no epoch in a row, or something else than a number (a layer's name excepted).
    """
    try:
        with path.open(newline="", encoding="utf8") as file:
            rows = [row for row in csv.DictReader(file, strict=True) if None not in row.values() and None not in row]
    except FileNotFoundError:
        return []
    except (ValueError, csv.Error) as error:  # no UTF-8, a NUL, a quote that stays open
        raise damaged(path, f"is not a readable table: {error}") from error
    except OSError as error:
        raise file_error(error) from error
    for number, row in enumerate(rows, 2):
        if not row.get("epoch", "").isdecimal():
            raise damaged(path, f"is damaged: line {number} names no epoch")
        if wrong := [value for name, value in row.items() if name != "layer" and not _is_number(value)]:
            raise damaged(path, f"is damaged: {wrong[0]!r:.60} in line {number} is no number")
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
