"""The format of a text file with columns: encoding, delimiter, header, and the line of each row. Imports no torch."""

import codecs
import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from train_smarter.errors import UserError, file_error

DELIMITERS = (",", ";", "\t", "|")
DELIMITER_NAMES = {"\t": "tab"}  # as a user types it
GUESS = "cp1252"  # Western Europe on Windows: a file that is not UTF-8
SAMPLE = 1 << 18  # bytes from which the delimiter is detected
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class DelimitedFormat:
    """How a file is written.

    header: names of the columns, as they are spelled.
    guessed: the encoding is a guess.
    """

    encoding: str
    delimiter: str
    header: list[str]
    guessed: bool = False

    def __str__(self) -> str:
        name = DELIMITER_NAMES.get(self.delimiter, self.delimiter)
        encoding = "" if self.encoding.startswith("utf-8") else f", encoding {self.encoding}"
        hint = "; it is not UTF-8: if letters are wrong, type data.encoding=..." if self.guessed else ""
        return f"delimiter {name!r}{encoding}{hint}"


def open_bytes(path: Path) -> IO[bytes]:
    """A file, uncompressed where its name ends in `.gz`."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def detect_format(path: Path, *, delimiter: str | None, encoding: str | None) -> DelimitedFormat:
    """Detect what is not given.

    Raises:
        UserError: it is no text, is empty, or has two columns of one name.
    """
    given = encoding
    try:
        encoding = encoding or _detect_encoding(path)
        with open_records(path, encoding) as text:
            sample = text.read(SAMPLE)
    except LookupError as error:
        raise UserError(f"data.encoding={encoding}: Python knows no such encoding; type utf-8 or cp1252") from error
    except UnicodeError as error:
        raise UserError(f"{path} is not {encoding}: {error}; type another data.encoding=...") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    if not sample.strip():
        raise UserError(f"{path} is empty: its first line has to name the columns")
    try:
        delimiter = _parse_delimiter(delimiter) or _detect_delimiter(sample, path)
        header = next(row for row in _records(io.StringIO(sample), delimiter) if row)
    except csv.Error as error:
        raise UserError(f"{path}: a line ends with a carriage return alone: save it with line feeds") from error
    names = [name.strip() for name in header]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}, line 1: several columns have the name {repeated[0]!r}: rename all but one")
    return DelimitedFormat(encoding, delimiter, header, guessed=given is None and encoding == GUESS)


@contextmanager
def open_records(path: Path, encoding: str) -> Iterator[IO[str]]:
    with open_bytes(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        yield text


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
        return UserError(f"{path} is no complete gzip file: {error}")
    assert isinstance(error, OSError)
    return file_error(error, path=path)


def _detect_encoding(path: Path) -> str:
    """UTF-8 where the whole file is; else that of its byte order mark, or the guess."""
    decoder, started = codecs.getincrementaldecoder("utf-8")(), False
    with open_bytes(path) as file:
        while block := file.read(1 << 20):
            if not started:
                if found := next((name for mark, name in BOMS.items() if block.startswith(mark)), None):
                    return found
                if b"\0" in block[:SAMPLE]:
                    raise UserError(
                        f"{path} is no text file; give CSV, TSV, JSONL or Parquet (if it is UTF-16: "
                        "data.encoding=utf-16)"
                    )
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return _check_guess(path)
            started = True
    return "utf-8-sig"


def _check_guess(path: Path) -> str:
    with open_bytes(path) as file:
        try:
            while block := file.read(1 << 20):
                block.decode(GUESS)
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is neither UTF-8 nor {GUESS}: type data.encoding=..., latin-1 say") from error
    return GUESS


def _parse_delimiter(given: str | None) -> str | None:
    """The character that a user names: `,`, or `tab`."""
    if given is None:
        return None
    names = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
    delimiter = names.get(given, given)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UserError(f"data.delimiter={given}: give one character, or one of {', '.join(names)}")
    return delimiter


def _detect_delimiter(sample: str, path: Path) -> str:
    """The character by which the first rows have the most columns, and all the same number."""
    if ".tsv" in path.suffixes or ".tab" in path.suffixes:
        return "\t"
    counts = {each: _column_counts(sample, each) for each in DELIMITERS}
    even = [each for each, widths in counts.items() if len(set(widths)) == 1 and widths[0] > 1]
    return max(even or DELIMITERS, key=lambda each: counts[each][0])


def _column_counts(sample: str, delimiter: str) -> list[int]:
    """Of the first 50 rows; the last one may be cut off."""
    rows = [row for row, _ in zip(_records(io.StringIO(sample), delimiter), range(51), strict=False) if row]
    widths = [len(row) for row in rows]
    return widths if len(widths) <= 2 or (len(widths) < 51 and sample.endswith(("\n", "\r"))) else widths[:-1]


def _records(lines: IO[str], delimiter: str) -> Iterator[list[str]]:
    return _long_cells(csv.reader(lines, delimiter=delimiter))


def _long_cells(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Rows with cells of any length; the limit, 131,072 characters, is of all readers of the process and put back."""
    row: list[str] | None = []
    while row is not None:
        before = csv.field_size_limit(sys.maxsize)
        try:
            row = next(reader, None)
        finally:
            csv.field_size_limit(before)
        if row is not None:
            yield row


def iter_records(path: Path, form: DelimitedFormat) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins, the header among them; empty lines are left out."""
    with open_records(path, form.encoding) as text:
        reader = csv.reader(text, delimiter=form.delimiter, strict=False)
        line = 1
        for row in _long_cells(reader):
            if row:
                yield line, row
            line = reader.line_num + 1


def line_of(path: Path, form: DelimitedFormat, row: int) -> int:
    """The line on which a row begins; row 0 is the one after the header."""
    return next(line for number, (line, _) in enumerate(iter_records(path, form), start=-1) if number == row)


def reject_ragged(path: Path, form: DelimitedFormat, reason: object) -> NoReturn:
    """Raise a UserError that names the first row with too few or too many cells.

    Args:
        reason: what the reader said, for a file that is refused for another one.
    """
    expected = len(form.header)
    try:
        for line, row in iter_records(path, form):
            if len(row) != expected:
                hint = _ragged_hint(row, form)
                raise UserError(f"{path}, line {line}: {len(row)} cells, but the header has {expected}{hint}")
    except UnicodeError as error:
        raise UserError(f"{path} is not {form.encoding}: {error}; type another data.encoding=...") from error
    raise UserError(f"{path} cannot be read: {reason}")


def _ragged_hint(row: Sequence[str], form: DelimitedFormat) -> str:
    if len(row) < len(form.header) and any("\n" in cell for cell in row):
        return '; a cell begins with a quotation mark (") there: is it closed?'
    if len(row) > len(form.header):
        return f"; a cell that holds {form.delimiter!r} needs quotation marks around it"
    return ""


def reject_open_quote(path: Path, form: DelimitedFormat) -> None:
    """Raise a UserError if the last row holds the rest of the file, from a quotation mark on."""
    last = 1
    with open_records(path, form.encoding) as text:
        reader = csv.reader(text, delimiter=form.delimiter, strict=True)
        try:
            for _ in reader:
                last = reader.line_num + 1
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise UserError(f'{path}, line {last}: a quotation mark (") is opened and not closed') from error
