"""A folder of texts for each class, `<class>/*.txt`, as rows with the columns `text` and `label`. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path

from train_smarter.errors import UserError

COLUMNS = ("text", "label")


def class_folders(folder: Path) -> list[Path]:
    """The folders within a folder that hold texts, sorted."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path for path in inside if next(path.glob("*.txt"), None)]


def iter_files(folder: Path) -> Iterator[Path]:
    """The files, class after class, by name."""
    for home in class_folders(folder):
        yield from sorted(path for path in home.glob("*.txt") if not path.name.startswith("."))


def read_folder(folder: Path, encoding: str | None) -> dict[str, list[str]]:
    """Columns of the texts and their class.

    Args:
        encoding: None: UTF-8.

    Raises:
        UserError: a file has another encoding.
    """
    rows: dict[str, list[str]] = {name: [] for name in COLUMNS}
    for file in iter_files(folder):
        try:
            rows["text"].append(file.read_text(encoding or "utf-8-sig"))
        except (UnicodeError, LookupError) as error:
            raise UserError(
                f"{file} is not {encoding or 'UTF-8'}: type another data.encoding=..., cp1252 say"
            ) from error
        rows["label"].append(file.parent.name)
    return rows


def stamp(folder: Path) -> list[int]:
    """What changes when the texts do: how many there are, their size, and the latest change."""
    states = [file.stat() for file in iter_files(folder)]
    return [len(states), sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)]
