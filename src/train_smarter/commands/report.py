"""`report`: what past runs were and how they ended, as their folders tell it; of one run or multirun a page, too.

A folder may be half written, damaged, or a stranger's: a list says so in its row, and no interpolation is resolved.
Imports nothing heavy until there is a page to draw, and torch never.
"""

import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from train_smarter.config.cli import command
from train_smarter.errors import UserError, did_you_mean
from train_smarter.history import find, saved_config
from train_smarter.report.compare import PAIR, compare_runs
from train_smarter.report.formatting import format_value
from train_smarter.report.listing import list_jobs, list_runs, show_run
from train_smarter.terminal import echo
from train_smarter.trust import check_folder

KEYS = (*PAIR, "limit", "output", "format")
FORMATS = ("table", "json")


def main() -> None:
    """The console script."""
    command("report", run_report, rewrite_argv)


def rewrite_argv(argv: Sequence[str]) -> list[str]:
    """The command line as Hydra is to see it: `run=` and `compare_to=` are taken literally, whatever they hold."""
    if {"-m", "--multirun"} & set(argv):
        raise UserError("report has nothing to sweep: type it without -m")
    for key in PAIR:
        given = [word for word in argv if word.startswith(f"{key}=")]
        if len(given) > 1:
            raise UserError(f"{' '.join(given)}: two runs are compared by report run=<one> compare_to=<other>")
        if given == [f"{key}="]:
            raise UserError(f"{key}= names no run: give `last`, a folder, or its name")
    if not any(word.startswith("-") for word in argv):
        _reject_unknown_keys(argv)
    return saved_config.quote_values(argv, (*PAIR, "output"))


def _reject_unknown_keys(argv: Sequence[str]) -> None:
    for word in argv:
        key, mark, _ = word.lstrip("+").partition("=")
        if not mark or not (key in KEYS or re.match(r"(paths|hydra)\b", key)):
            hint = did_you_mean(key, KEYS) if mark else f"; is it a run? Type report run={shlex.quote(word)}"
            raise UserError(f"{word}: report takes {'=, '.join(KEYS)}= and paths.logs={hint}")


def run_report(cfg: DictConfig) -> None:
    """Shows the newest runs, or the one that `run=` names, or what differs between it and the one of `compare_to=`.

    Of one run or multirun it writes the page, unless a program is to read.
    """
    _check_values(cfg)
    logs, folder = Path(cfg.paths.logs), None
    if cfg.run is None:
        content, things = list_runs(logs, last=cfg.limit)
    elif cfg.compare_to is not None:
        folders = [find.find_run(str(cfg[key]), logs, key=key) for key in PAIR]
        content, things = compare_runs(*folders)
    else:
        folder = find.find(str(cfg.run), logs)
        content, things = show_run(folder) if find.is_run(folder) else list_jobs(folder)
    if cfg.format == "json":
        echo(json.dumps(content, indent=2))
        return
    echo(*things)
    if folder is not None:
        check_folder(folder)
        echo(f"\npage: {_write_page(folder, cfg.output)}")


def _write_page(folder: Path, output: Any) -> Path:
    from train_smarter.report import page  # heavy

    if output is None:
        return page.write_page(folder)
    target = Path(os.path.abspath(os.path.expanduser(str(output))))  # noqa: PTH100, PTH111 (a link stays one; ~nobody, too)
    return page.write_page(folder, target / "report.html" if target.is_dir() else target)


def _check_values(cfg: DictConfig) -> None:
    if cfg.format not in FORMATS:
        raise UserError(f"format={cfg.format}: give {' or '.join(FORMATS)}{did_you_mean(str(cfg.format), FORMATS)}")
    if not isinstance(cfg.limit, int) or isinstance(cfg.limit, bool) or cfg.limit < 1:
        raise UserError(
            f"limit={format_value(cfg.limit)}: give a whole number of at least 1, or run=last for the newest run"
        )
    if cfg.compare_to is not None and cfg.run is None:
        raise UserError(f"compare_to={cfg.compare_to} needs a run to compare: add run=last, or run=<folder>")
    if cfg.output is not None and (cfg.run is None or cfg.compare_to is not None or cfg.format == "json"):
        raise UserError(f"output={cfg.output}: a page is written of one run or multirun: report run=last output=<file>")


if __name__ == "__main__":
    main()
