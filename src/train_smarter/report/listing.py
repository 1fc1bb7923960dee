"""Tables of runs and of the jobs of a multirun."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from train_smarter.errors import UserError
from train_smarter.history import find
from train_smarter.report.formatting import MISSING, Content, View, format_seconds, format_text, format_time
from train_smarter.report.means import group_runs, mean_rows
from train_smarter.report.runs import (
    SPLITS,
    accuracy_noise,
    found_names,
    run_facts,
    run_sections,
    started_at,
    summary,
    test_cell,
    test_heading,
)
from train_smarter.run.results import ranking_key
from train_smarter.sanitize import escape_controls
from train_smarter.terminal import format_table, results_table


def columns_of(rows: Sequence[Content]) -> tuple[str, ...]:
    return ("time", "data", "model", "status", "best", test_heading(rows), "took", "name")


# ---- a list of runs


def list_runs(logs: Path, *, last: int) -> View:
    """The newest runs, the jobs of multiruns among them, newest first."""
    home = logs / "train"
    runs = [folder for folder in home.glob("runs/*") if find.is_run(folder)]
    runs += [job for folder in home.glob("multiruns/*") for job in find.jobs(folder)]
    if not runs:
        raise UserError(f"there is no run under {home} yet: type train first, or give paths.logs=<folder>")
    rows = [summary(folder) for folder in sorted(runs, key=started_at, reverse=True)[:last]]
    more = [f"\n{last} of {len(runs)} runs; for all of them type report limit={len(runs)}"] if last < len(runs) else []
    return rows, [format_table(rows_of(rows), *columns_of(rows)), *_damage_lines(rows), *more]


def list_jobs(folder: Path) -> View:
    """The jobs of a multirun, the best one first, each with the overrides that not all of them have; their means."""
    rows = [summary(job) for job in find.jobs(folder)]
    sound = [run["overrides"] for run in rows if "overrides" in run]
    common = [word for word in sound[0] if all(word in typed for typed in sound)] if sound else []
    for run in rows:
        run["overrides"] = [word for word in run.get("overrides", []) if word not in common]
    rows.sort(key=lambda run: ranking_key(run.get("best"), run.get("mode")))
    groups = group_runs(rows)
    head = [("multirun", folder.name), ("folder", folder), ("all jobs", shlex.join(common) or MISSING)]
    jobs = [
        [_job_name(run), *row[3:7], found_names(run), shlex.join(run["overrides"])]
        for run, row in zip(rows, rows_of(rows), strict=True)
    ]
    table = format_table(jobs, "job", *columns_of(rows)[3:7], "found", "overrides")
    content = {"name": folder.name, "folder": str(folder), "overrides": common, "jobs": rows, "groups": groups}
    return content, [
        format_table(head),
        "",
        table,
        *_failure_lines(rows),
        *_damage_lines(rows),
        *near_ties(rows),
        *mean_rows(groups),
    ]


def rows_of(rows: Sequence[Content]) -> list[list[str]]:
    """The cells of `columns_of`."""
    heading = test_heading(rows)
    return [_row_of(run, heading) for run in rows]


def _row_of(run: Content, heading: str) -> list[str]:
    best = f"{run['monitor']} {format_text(run['best'])}" if run.get("best") is not None else MISSING
    known = [format_time(run.get("start")), *(format_text(run.get(key)) for key in ("data", "model", "status"))]
    return [*known, best, test_cell(run, heading), format_seconds(run.get("seconds")), run["name"]]


def near_ties(rows: Sequence[Content]) -> list[str]:
    """A line, if the best job of a multirun may only have been luckier than others; rows: the best first."""
    near = [run for run in rows[1:] if accuracy_noise(rows[0], run) is not None] if rows else []
    if not near:
        return []
    error = accuracy_noise(rows[0], near[0])
    return [
        f"{_pluralize(len(near), 'job')} within one standard error of the best ({error:.4f} on "
        f"{rows[0]['val_examples']} validation examples): which of them is better takes more seeds to tell"
    ]


def _pluralize(number: int, noun: str) -> str:
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"


def _damage_lines(rows: Sequence[Content]) -> list[str]:
    return [f"damaged: {escape_controls(run['damage'])}" for run in rows if "damage" in run]


def _failure_lines(rows: Sequence[Content]) -> list[str]:
    """A line for each reason: a search may fail in one way many times."""
    jobs: dict[str, list[str]] = {}
    for run in sorted(rows, key=lambda run: _job_name(run).zfill(9)):
        if run.get("error"):
            jobs.setdefault(run["error"], []).append(_job_name(run))
    return [escape_controls(f"failed: {', '.join(names)}: {reason}") for reason, names in jobs.items()]


def _job_name(run: Content) -> str:
    return Path(run["folder"]).name


# ---- one run


def show_run(folder: Path) -> View:
    """What a run was, how it ended, and what its folder lacks."""
    run = run_sections(folder)
    splits = [split for split in SPLITS if any(name.startswith(f"{split}/") for name in run["results"])]
    table = ["", results_table(run["results"], splits)] if splits else []
    missing = [("missing:", ""), *run["missing"].items()] if run["missing"] else []
    return run, [format_table(run_facts(run)), *table, *([format_table(missing)] if missing else [])]
