"""Your own texts: a file with a text a row, or a folder of texts for each class."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train_smarter.data.examples import RawDataset, RawInput
from train_smarter.data.table_dataset import make_dataset
from train_smarter.data.table_file import StringTable, kind_of, read_table, shorten
from train_smarter.data.table_source import as_names, left_out_note, pop_source
from train_smarter.data.text_data import TextData
from train_smarter.data.text_files import TextLine
from train_smarter.errors import UserError

log = logging.getLogger(__name__)


class TextFile(TextData):
    """Texts of one column of a file, or of several, joined.

    Args:
        data: those of `TableSource` and of `TextData`.
        input: the column of the text; of several, the texts of a row follow each other, with a line break between them.
    """

    NOT_READ_KEYS: tuple[str, ...] = TextData.NOT_READ_KEYS

    def __init__(self, *, input: str | Sequence[str] = "text", **data: Any) -> None:  # noqa: A002
        self.source, self.notes, self.input = pop_source(data), list[str](), as_names(input)
        super().__init__(**data)
        if not self.input:
            raise UserError("data.input=null: type the column of the texts, data.input=...")

    def fingerprint(self) -> Any:
        settings = {name: value for name, value in vars(self.source).items() if "file" not in name}
        return [self.input, settings, self.source.stamp()]

    def read(self) -> RawDataset:
        found = self.source.read(self.input)
        found.table.require(self.input, "data.input")
        self.notes.append(found.table.describe())
        targets = self.source.read_targets(found.table, self.names)
        self.notes += left_out_note(found.table, targets.rows, self.source.target, "a target")
        texts = join_texts(found.table, self.input)
        whole = np.array([row for row, text in enumerate(texts) if text])
        self.notes += left_out_note(found.table, whole, self.input, "a text")
        kept = np.flatnonzero(np.isin(targets.rows, whole))
        if not len(kept):
            raise UserError(f"data.input={','.join(self.input)}: no row of {found.table.where} has a text and a target")
        return make_dataset(self, found, targets, kept, [texts[row] for row in targets.rows[kept]], self.notes)

    def log_summary(self) -> None:
        super().log_summary()
        for note in self.notes:
            log.info("%s", note)

    # ---- a user's own input

    def iter_inputs(self, given: str) -> Iterator[TextLine]:
        """Rows of a file with columns, or lines: see `read_texts`."""
        rows = read_text_rows(given, self.input, delimiter=self.source.delimiter, encoding=self.source.encoding)
        return super().iter_inputs(given) if rows is None else rows

    def load_input(self, source: TextLine) -> RawInput:
        if not source.text.strip():
            raise ValueError("the text is empty")
        return super().load_input(source)


def read_text_rows(
    given: str, columns: Sequence[str], *, delimiter: str | None = None, encoding: str | None = None
) -> Iterator[TextLine] | None:
    """The texts of a file with columns, `input=` of a prediction; None: it is none.

    Raises:
        UserError: it lacks one of the columns.
    """
    path = Path(given).expanduser()
    if path.suffix.lower() == ".txt" or not kind_of(path) or not path.is_file():
        return None
    table = read_table(given, key="input", columns=columns, delimiter=delimiter, encoding=encoding)
    if absent := [name for name in columns if name not in table.names]:
        raise UserError(
            f"input={given} has no column {shorten(absent)}, but {shorten(table.known)}; for a text a line, give a "
            "file that ends in .txt"
        )
    return (TextLine(number, text.encode()) for number, text in enumerate(join_texts(table, columns), start=1))


def join_texts(table: StringTable, columns: Sequence[str]) -> list[str]:
    """The text of each row; empty where all cells are."""
    if len(columns) == 1:
        return [text or "" for text in table.texts(columns[0])]
    cells = zip(*(table.texts(name) for name in columns), strict=True)
    return ["\n".join(text for text in row if text) for row in cells]
