"""Write predictions as CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from train_smarter.errors import UserError
from train_smarter.inference.predictor import Prediction
from train_smarter.run.files import atomic_file
from train_smarter.sanitize import csv_cell, escape_controls

PREVIEW_ROWS = 5  # so few predictions are shown in the terminal as well


# ---- writing


class CSVTable:
    """A row for each prediction, under the names of the columns; no cell is a spreadsheet's formula."""

    def __init__(self, file: TextIO, names: Sequence[str]) -> None:
        self.writer, self.names, self.begun = csv.writer(file, lineterminator="\n"), names, False

    def add(self, predictions: Sequence[Prediction]) -> None:
        if not self.begun:
            columns = [*predictions[0].id_columns, "prediction", "probability"]
            names = [csv_cell(f"p({name})" if name in columns else name) for name in self.names]
            self.writer.writerow(columns + names)
            self.begun = True
        self.writer.writerows(
            [
                *map(csv_cell, one.id_columns.values()),
                csv_cell(one.name),
                f"{one.probability:.7g}",
                *(f"{p:.7g}" for p in one.probabilities),
            ]
            for one in predictions
        )


class JSONLines:
    """An object for each prediction, on a line of its own."""

    def __init__(self, file: TextIO, names: Sequence[str]) -> None:
        self.file, self.names = file, names

    def add(self, predictions: Sequence[Prediction]) -> None:
        for one in predictions:
            of_classes = {name: _round_probability(p) for name, p in zip(self.names, one.probabilities, strict=True)}
            row = {
                "prediction": one.name,
                "probability": _round_probability(one.probability),
                "probabilities": of_classes,
            }
            self.file.write(json.dumps(one.id_columns | row, ensure_ascii=False) + "\n")


def _round_probability(probability: float) -> float:
    """As many digits as 32 bits hold."""
    return float(f"{probability:.7g}")


TABLES: dict[str, type[CSVTable] | type[JSONLines]] = {"csv": CSVTable, "jsonl": JSONLines}


def write(
    file: TextIO, form: str, predictions: Iterable[list[Prediction]], names: Sequence[str], *, quiet: bool
) -> int:
    """Writes batch after batch and returns how many predictions there were; unless `quiet`, a few are shown."""
    from rich.console import Console
    from rich.progress import track

    from train_smarter.terminal import echo

    console, table = Console(stderr=True), TABLES[form](file, names)
    done, few = 0, list[Prediction]()
    hidden = quiet or not console.is_terminal
    for batch in track(predictions, "predicting", console=console, transient=True, disable=hidden):
        table.add(batch)
        file.flush()
        done, few = done + len(batch), [*few, *batch][: PREVIEW_ROWS + 1]
    if not quiet and len(few) <= PREVIEW_ROWS:
        for one in few:
            echo(escape_controls(f"{one.name}  {one.probability:.4f}  {' '.join(map(str, one.id_columns.values()))}"))
    return done


@contextmanager
def open_output(output: Path | None) -> Iterator[TextIO]:
    """The file to write, which stands under its name when it is whole; or standard output.

    Raises:
        UserError: it cannot be written.
    """
    if output is None:
        with _open_stdout() as file:
            yield file
        return
    try:
        with (
            atomic_file(output) as part,
            part.open("w", encoding="utf8", errors="backslashreplace", newline="") as file,
        ):
            yield file
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error}") from error


@contextmanager
def _open_stdout() -> Iterator[TextIO]:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf8", errors="backslashreplace", newline="")
    try:
        yield sys.stdout
    except BrokenPipeError:  # whoever reads has read enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be written at the end
        sys.exit(141)  # as of a program that this has stopped
