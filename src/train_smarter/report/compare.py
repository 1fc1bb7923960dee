"""Compare two runs: config, environment, metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from train_smarter.errors import UserError
from train_smarter.history import saved_config
from train_smarter.report.formatting import MISSING, Content, View, format_text, format_value
from train_smarter.report.listing import columns_of, rows_of
from train_smarter.report.runs import accuracy_noise, choices_of, run_sections
from train_smarter.sanitize import escape_controls
from train_smarter.terminal import format_table

PAIR = ("run", "compare_to")
# Where runs lie, and words that named one: they differ by nature.
NOT_COMPARED = ("paths.run", "paths.logs", "resume", "rerun", "run")


# ---- two runs


def compare_runs(folder: Path, other: Path) -> View:
    """What differs between two runs: config, software and hardware, metrics."""
    if folder == other:
        raise UserError(f"run= and compare_to= are both {folder}: give two runs")
    runs = run_sections(folder), run_sections(other)
    differing = {
        "config": _changed_files(
            *(_compare_configs(at, run["seed"]) for at, run in zip((folder, other), runs, strict=True))
        ),
        "environment": _find_differences(*map(_environment_of, runs)),
        "metrics": _find_differences(*map(_metrics_of, runs)),
    }
    for pair in differing["metrics"].values():
        if len(pair) == 2:
            pair["difference"] = pair["run"] - pair["compare_to"]
    sides = dict(zip(PAIR, runs, strict=True))
    lacking = [
        escape_controls(f"{side}: {file}: {run['missing'][file]}")
        for side, run in sides.items()
        for file in ("record.json", "results.json")
        if file in run["missing"]
    ]
    rows = [[side, *row] for side, row in zip(sides, rows_of(runs), strict=True)]
    head = format_table(rows, "", *columns_of(runs))
    if error := accuracy_noise(*runs):
        lacking.append(f"the two differ by less than the standard error of their accuracy, {error:.4f}: it may be luck")
    tables = [_two_columns(title, pairs) for title, pairs in differing.items()]
    return {**sides, **differing}, ["\n\n".join([head, *lacking, *tables])]


def _find_differences(run: Content, against: Content) -> dict[str, Content]:
    """The keys whose values differ, with both of them; one that a run has not is left out of its side."""
    sides = dict(zip(PAIR, (run, against), strict=True))
    return {
        key: {side: values[key] for side, values in sides.items() if key in values}
        for key in dict.fromkeys([*run, *against])
        if key not in run or key not in against or run[key] != against[key]
    }


def _compare_configs(folder: Path, seed: Any) -> tuple[Content, Content]:
    """A run's config, flat: as it was written, and with the values that its interpolations had then."""
    written = saved_config.flatten(OmegaConf.to_container(saved_config.load_saved_config(folder), resolve=False)) | {
        "seed": seed
    }
    kept = folder / "config.yaml"
    filled = (
        saved_config.flatten(OmegaConf.to_container(saved_config.load_yaml(kept), resolve=False))
        if kept.is_file()
        else {}
    )
    values = {key: filled.get(key, value) if "${" in str(value) else value for key, value in written.items()}
    chosen = choices_of(folder)
    return written | chosen, values | chosen  # over the null of an empty group


def _changed_files(run: tuple[Content, Content], against: tuple[Content, Content]) -> dict[str, Content]:
    """What was written differently and has another value; what only follows from another key is left out."""
    written = _find_differences(run[0], against[0])
    values = _find_differences(run[1], against[1])
    return {key: pair for key, pair in sorted(values.items()) if key in written and key not in NOT_COMPARED}


def _environment_of(run: Content) -> Content:
    facts = {name: run[name] for name in ("commit", "uncommitted", "host") if run[name]}
    return {**facts, **run["packages"], **run["hardware"]}


def _metrics_of(run: Content) -> Content:
    names = ("best_epoch", "epochs", "seconds", "train_epoch_seconds_median")
    known = {f"best {run['monitor']}": run["best"], **{name: run[name] for name in names}, **run["results"]}
    return {name: value for name, value in known.items() if value is not None}


def _two_columns(title: str, differing: Mapping[str, Content]) -> str:
    if not differing:
        return f"{title}: no difference"
    if title != "metrics":
        rows = [
            [key, *(format_value(pair[side]) if side in pair else MISSING for side in PAIR)]
            for key, pair in differing.items()
        ]
        return format_table(rows, title, *PAIR)
    rows = [
        [key, *(format_text(pair.get(side)) for side in PAIR), _format_change(pair)] for key, pair in differing.items()
    ]
    return format_table(rows, title, *PAIR, "difference")


def _format_change(pair: Content) -> str:
    by = pair.get("difference")
    return f"+{format_text(by)}" if by is not None and by > 0 else format_text(by)
