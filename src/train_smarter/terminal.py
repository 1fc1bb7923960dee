"""What a command shows in the terminal besides its progress: the composed config, tables of results and of runs."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
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


def config_line(cfg: DictConfig, choices: Mapping[str, str]) -> str:
    """The choice of each group that decides what a run is, and how to see the rest."""
    shown = {group: choices[group] for group in CHOSEN if choices.get(group, "none") != "none"}
    words = [f"{name}={value}" for name, value in (shown | {"seed": cfg.seed}).items()]
    return f"{' '.join(words)}  (print_config=true shows the whole config)"


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


def results_table(results: Mapping[str, Any], splits: Sequence[str]) -> Table:
    """A row for each metric, a column for each split; results are keyed as `test/accuracy`."""
    table = Table("metric", *splits)
    keys = [str(key).partition("/") for key in results]
    for name in dict.fromkeys(name for split, mark, name in keys if mark and split in splits):
        values = [results.get(f"{split}/{name}") for split in splits]
        table.add_row(name, *("-" if value is None else format_metric(value) for value in values))
    return table


def results_tables(results: Mapping[str, Any], splits: Sequence[str]) -> list[Table]:
    """The table of what is known by split, and one of what a LightningModule has logged under names of its own."""
    own = {name: value for name, value in results.items() if name.partition("/")[0] not in splits}
    tables = [results_table(results, splits)] if len(own) < len(results) else []
    if own:
        table = Table("metric", "value")
        for name, value in own.items():
            table.add_row(name, format_metric(value))
        tables.append(table)
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
            first, *others = map(shlex.quote, advice)
            lines.append(f"  try: {'   or '.join([f'train rerun={run} {first}', *others])}")
    return lines


def finding_line(finding: Mapping[str, Any]) -> str:
    place = f" ({finding['where']})" if finding.get("where") else ""
    return escape_controls(f"{finding['severity']}: {finding['name'].replace('_', ' ')}: {finding['evidence']}{place}")


def format_table(rows: Iterable[Sequence[object]], *columns: str) -> str:
    """Rows under columns, which may go unnamed; a row stays one line in a pipe and on a narrow terminal, too."""
    lines = [[escape_controls(cell) for cell in row] for row in ([columns] if columns else []) + [*rows]]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def format_duration(seconds: float) -> str:
    """A time as it is read: 8 s, 5 min 01 s, 2 h 07 min."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def echo(*things: Any) -> None:
    """Print on standard output, coloured where it is a terminal; control characters in text are escaped."""
    safe = [escape_controls_in_lines(thing) if isinstance(thing, str) else thing for thing in things]
    Console(soft_wrap=True, markup=False, emoji=False).print(*safe, sep="\n", highlight=False)
