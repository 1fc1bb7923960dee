"""Read texts from files."""

import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from train_smarter.errors import UserError

# A value with one of these, or with a slash and no space, is meant as the name of a file.
SUFFIXES = (".csv", ".gz", ".json", ".jsonl", ".md", ".tsv", ".txt", ".zip")


@dataclass(frozen=True)
class TextLine:
    """A text as it was found; `number` counts from 1."""

    number: int
    content: bytes

    @property
    def text(self) -> str:
        """Raises a ValueError where it is not UTF-8."""
        try:
            return self.content.decode("utf8")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 from byte {error.start + 1} on") from error

    def __str__(self) -> str:
        return f"line {self.number}"


def read_texts(given: str) -> Iterator[TextLine]:
    """Texts, as they are asked for.

    Args:
        given: a file with a text a line, or `-` for standard input; else it is the text itself.

    Raises:
        UserError: it is a folder, a file that cannot be read, or looks like the name of one that is not there.
    """
    path = os.path.expanduser(given)  # noqa: PTH111 (pathlib's fails at ~nobody)
    if given == "-":
        return _number_lines(sys.stdin.buffer)
    if os.path.isdir(path):  # noqa: PTH112 (pathlib's fails at a name as long as a text)
        raise UserError(f"input={given} is a folder: give a file with a text a line")
    if os.path.exists(path):  # noqa: PTH110
        if not os.access(path, os.R_OK):
            raise UserError(f"input={given}: this file may not be read")
        return _read_lines(Path(path))
    if given.lower().endswith(SUFFIXES) or ("/" in given and len(given.split()) == 1):
        raise UserError(
            f"input={given}: there is no such file; give one with a text a line, a text with a space in it, or - for "
            "standard input"
        )
    return iter([TextLine(1, os.fsencode(given))])


def _read_lines(path: Path) -> Iterator[TextLine]:
    with path.open("rb") as file:
        yield from _number_lines(file)


def _number_lines(lines: Iterable[bytes]) -> Iterator[TextLine]:
    for number, line in enumerate(lines, start=1):
        start = line.removeprefix(BOM_UTF8) if number == 1 else line
        yield TextLine(number, start.rstrip(b"\r\n"))
