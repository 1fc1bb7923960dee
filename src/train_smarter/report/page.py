"""The report as a page: one HTML file of a run or a multirun that needs no network, and opens from disk.

Written from what its folder holds. Each section has a file of its own: where that is missing, damaged or of an older
version, the section says so, and the others stand. Names, texts and commands may be a stranger's, and are escaped.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from train_smarter.errors import UserError, file_error
from train_smarter.history import find
from train_smarter.report.multirun_page import multirun_page
from train_smarter.report.run_page import run_page
from train_smarter.run import files
from train_smarter.terminal import echo_labelled, short_path

if TYPE_CHECKING:
    from optuna import Study


log = logging.getLogger(__name__)


def write_page(folder: Path, target: Path | None = None, *, study: "Study | None" = None) -> Path:
    """Writes the page of a run or a multirun, as a whole file; returns where: `target`, or report.html in the folder.

    study: of the search, where it is open already.

    Raises:
        UserError: it cannot be written there, or the run's own record is damaged.
    """
    path = folder / "report.html" if target is None else target
    text = run_page(folder) if find.is_run(folder) else multirun_page(folder, study=study)
    try:
        files.atomic_write(path, text)
    except OSError as error:
        raise UserError(f"{file_error(error, path=path)}; output=<file> puts it elsewhere") from error
    return path


def write_at_end(folder: Path, *, study: "Study | None" = None) -> None:
    """Writes the page at the end of a run or a search, which does not fail because it cannot be drawn."""
    try:
        echo_labelled(f"report:      {short_path(write_page(folder, study=study))}")
    except Exception as error:
        log.warning("report.html is not written: %s", error, exc_info=not isinstance(error, UserError))
