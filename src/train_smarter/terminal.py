"""What a command shows in the terminal besides its progress: the composed config, the log, tables of results and runs.

Colours and line breaks are for terminals: a pipe or a file gets one plain line each. NO_COLOR turns the colours off.
"""

import logging
import re
import shlex
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from train_smarter.sanitize import escape_controls, escape_controls_in_lines

CHOSEN = (
    "experiment",
    "data",
    "model",
    "task",
    "optimizer",
    "scheduler",
    "trainer",
    "debug",
)  # groups, as they are read

# Labels that start a line, and their style; other labels are dim.
SEVERITIES = {"problem": "bold red", "error": "bold red", "warning": "yellow", "note": "cyan", "diagnosis": "green"}
LABEL = re.compile(r" *[A-Za-z][A-Za-z ]{,13}:(?= )")
# A cell that is a number, with an error or a unit, or a duration.
NUMBER = r"[-+]?[\d.,]+(e[-+]?\d+)?"
NUMERIC = re.compile(rf"({NUMBER}( ± {NUMBER})?( ?[%KMGTB]B?| s)?|\d+ (min|h) \d+ (s|min)|[-+]?(nan|inf)|-?)")


def config_lines(cfg: DictConfig, choices: Mapping[str, str]) -> list[Text]:
    """The choice of each group that decides what a run is, and how to see the rest."""
    shown = {group: choices[group] for group in CHOSEN if choices.get(group, "none") != "none"}
    words = [f"{name}={value}" for name, value in (shown | {"seed": cfg.seed}).items()]
    return [Text(escape_controls(" ".join(words)), "bold"), Text("print_config=true shows the whole config", "dim")]


def config_tree(cfg: DictConfig) -> Tree:
    """A branch for each group, plain values first."""
    tree = Tree("config", guide_style="dim")
    plain = OmegaConf.create({key: cfg[key] for key in cfg if not isinstance(cfg[key], DictConfig)})
    tree.add(_yaml(plain))
    for key in cfg:
        if isinstance(cfg[key], DictConfig) and len(cfg[key]):
            tree.add(str(key)).add(_yaml(OmegaConf.create(OmegaConf.to_container(cfg[key], resolve=True))))
    return tree


def _yaml(cfg: Any) -> Text:
    return Text(OmegaConf.to_yaml(cfg).rstrip())


def results_table(results: Mapping[str, Any], splits: Sequence[str]) -> Text:
    """A row for each metric, a column for each split; results are keyed as `test/accuracy`."""
    keys = [str(key).partition("/") for key in results]
    rows = []
    for name in dict.fromkeys(name for split, mark, name in keys if mark and split in splits):
        values = [results.get(f"{split}/{name}") for split in splits]
        rows.append((name, *("-" if value is None else format_metric(value) for value in values)))
    return headed(format_table(rows, "metric", *splits))


def results_tables(results: Mapping[str, Any], splits: Sequence[str]) -> list[Text]:
    """The table of what is known by split, and one of what a LightningModule has logged under names of its own."""
    own = {name: value for name, value in results.items() if name.partition("/")[0] not in splits}
    tables = [results_table(results, splits)] if len(own) < len(results) else []
    if own:
        rows = [(name, format_metric(value)) for name, value in own.items()]
        tables.append(headed(format_table(rows, "metric", "value")))
    return tables


def format_metric(value: float) -> str:
    """Four decimals, or five digits of a large number."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.5g}"


def diagnosis_lines(findings: Sequence[Mapping[str, Any]], run: str) -> list[str]:
    """What diagnosis.json holds, a line a finding, with what to type; `run` names it."""
    if all(finding["severity"] == "note" for finding in findings):
        findings = [{"severity": "diagnosis", "name": "healthy", "evidence": "nothing to mend was found"}, *findings]
    lines = []
    for finding in findings:
        lines.append(finding_line(finding))
        if advice := finding.get("advice"):
            words = ["try", *["or"] * (len(advice) - 1)]
            commands = [f"train rerun={run} {shlex.quote(override)}" for override in advice]
            lines += [f"{word:>5}: {command}" for word, command in zip(words, commands, strict=True)]
    return lines


def finding_line(finding: Mapping[str, Any]) -> str:
    place = f" ({finding['where']})" if finding.get("where") else ""
    return escape_controls(f"{finding['severity']}: {finding['name'].replace('_', ' ')}: {finding['evidence']}{place}")


def format_table(rows: Iterable[Sequence[object]], *columns: str) -> str:
    """Rows under columns, which may go unnamed; a row stays one line in a pipe and on a narrow terminal, too.

    A column of numbers is aligned at the right.
    """
    body = [[escape_controls(cell) for cell in row] for row in rows]
    lines = [[escape_controls(name) for name in columns], *body] if columns else body
    aligned = []
    for place, column in enumerate(zip(*lines, strict=True)):
        width = max(map(cell_len, column))
        numeric = all(NUMERIC.fullmatch(line[place]) for line in body)
        gaps = [" " * (width - cell_len(cell)) for cell in column]
        aligned.append([gap + cell if numeric else cell + gap for cell, gap in zip(column, gaps, strict=True)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def wrap_words(line: str, width: int) -> str:
    """Break a line between words; the lines after the first are indented. A longer word stays whole."""
    return textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def headed(table: str) -> Text:
    """A table whose first line, the names of its columns, is bold."""
    text = Text(table)
    text.stylize("bold", 0, table.find("\n") if "\n" in table else len(table))
    return text


def short_path(path: Path) -> str:
    """A path as it can be typed here: relative to the current folder where it is in there."""
    with suppress(OSError):  # the current folder is gone
        if path.is_relative_to(Path.cwd()):
            short = str(path.relative_to(Path.cwd()))
            return str(path) if short.startswith("-") else short
    return str(path)


def format_duration(seconds: float) -> str:
    """A time as it is read: 8 s, 5 min 01 s, 2 h 07 min."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def echo(*things: Any) -> None:
    """Print on standard output, coloured where it is a terminal; control characters in text are escaped."""
    safe = [escape_controls_in_lines(thing) if isinstance(thing, str) else thing for thing in things]
    _console().print(*safe, sep="\n")


def echo_labelled(*lines: str) -> None:
    """The same of lines that start with a label, such as `warning:` or `report:`."""
    console = _console()
    console.print(*(_style_label(escape_controls(line), console) for line in lines), sep="\n")


def echo_prose(line: str, style: str = "") -> None:
    """The same of one line that holds nothing to be copied: a terminal breaks it between words."""
    console = _console()
    line = escape_controls(line)
    console.print(Text(wrap_words(line, console.width) if console.is_terminal else line, style))


def echo_error(text: str) -> None:
    """Print on standard error; on a terminal, the first line is red."""
    first, mark, rest = escape_controls_in_lines(text).partition("\n")
    _console(sys.stderr).print(Text.assemble((first, "red"), mark, rest))


def _console(file: TextIO | None = None) -> Console:
    return Console(file=file, soft_wrap=True, markup=False, emoji=False, highlight=False)


def _style_label(line: str, console: Console) -> Text:
    """Colour the label of a line; on a terminal, break a finding between words. Commands and paths stay whole."""
    found = LABEL.match(line)
    label = found[0] if found else ""
    style = SEVERITIES.get(label.strip(" :"))
    if console.is_terminal and style is not None and "\n" not in line:
        line = wrap_words(line, console.width)
    return Text.assemble((label, style or "dim"), line[len(label) :])


class ScreenHandler(logging.StreamHandler[TextIO]):
    """Shows the log in the terminal: a message without time and logger, which the log file has; a warning is marked.

    A record may bring a shorter message for the screen: `extra={"screen": ...}`.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = self.stream
            if getattr(sys.stdout, "rich_proxied_file", None) is stream:  # a bar is drawn: print above it
                stream = sys.stdout
            stream.write(f"{self._render(record)}\n")
            self.flush()
        except Exception:  # as logging.StreamHandler does: a log line ends no run
            self.handleError(record)

    def _render(self, record: logging.LogRecord) -> str:
        console = _console(self.stream)
        line = escape_controls_in_lines(str(getattr(record, "screen", "")) or self.format(record))
        severity = "error" if record.levelno >= logging.ERROR else "warning"
        if record.levelno >= logging.WARNING and line.partition(":")[0] not in SEVERITIES:
            line = f"{severity}: {line}"
        first, *rest = line.split("\n")
        if record.name.startswith("hydra."):  # the jobs of a multirun, each after a tab
            text = Text(f"\n{first.strip()}" if first.startswith("\t") else first, "bold")
        else:
            text = _style_label(wrap_words(first, console.width) if console.is_terminal else first, console)
        with console.capture() as capture:
            console.print(Text("\n").join([text, *map(Text, rest)]), end="")
        return capture.get()
