"""Tables of runs and of the jobs of a multirun."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from train_smarter.errors import UserError
from train_smarter.history import find
from train_smarter.metric_names import SHOWN
from train_smarter.report.formatting import NONE, Content, View, _text, _time, _took
from train_smarter.report.means import _groups, _means
from train_smarter.report.runs import SPLITS, _age, _found, _rank, detail, facts, luck, summary
from train_smarter.sanitize import printable
from train_smarter.terminal import list_table, results_table

COLUMNS = ("time", "data", "model", "status", "best", "test/accuracy", "took", "name")


# ---- a list of runs


def listing(logs: Path, *, last: int) -> View:
    """The newest runs, the jobs of multiruns among them, newest first."""
    home = logs / "train"
    runs = [folder for folder in home.glob("runs/*") if find.is_run(folder)]
    runs += [job for folder in home.glob("multiruns/*") for job in find.jobs(folder)]
    if not runs:
        raise UserError(f"there is no run under {home} yet: type train first, or give paths.logs=<folder>")
    rows = [summary(folder) for folder in sorted(runs, key=_age, reverse=True)[:last]]
    more = [f"\n{last} of {len(runs)} runs; for all of them type report last={len(runs)}"] if last < len(runs) else []
    return rows, [list_table(map(_row, rows), *COLUMNS), *_damages(rows), *more]


def multirun(folder: Path) -> View:
    """The jobs of a multirun, the best one first, each with the overrides that not all of them have; their means."""
    rows = [summary(job) for job in find.jobs(folder)]
    sound = [run["overrides"] for run in rows if "overrides" in run]
    common = [word for word in sound[0] if all(word in typed for typed in sound)] if sound else []
    for run in rows:
        run["overrides"] = [word for word in run.get("overrides", []) if word not in common]
    rows.sort(key=_rank)
    groups = _groups(rows)
    head = [("multirun", folder.name), ("folder", folder), ("all jobs", shlex.join(common) or NONE)]
    jobs = [[_job(run), *_row(run)[3:7], _found(run), shlex.join(run["overrides"])] for run in rows]
    table = list_table(jobs, "job", *COLUMNS[3:7], "found", "overrides")
    content = {"name": folder.name, "folder": str(folder), "overrides": common, "jobs": rows, "groups": groups}
    return content, [list_table(head), "", table, *_failures(rows), *_damages(rows), *close(rows), *_means(groups)]


def _row(run: Content) -> list[str]:
    best = f"{run['monitor']} {_text(run['best'])}" if run.get("best") is not None else NONE
    known = [_time(run.get("start")), *(_text(run.get(key)) for key in ("data", "model", "status"))]
    return [*known, best, _text(run.get("test/accuracy")), _took(run.get("seconds")), run["name"]]


def close(rows: Sequence[Content]) -> list[str]:
    """A line, if the best job of a multirun may only have been luckier than others; rows: the best first."""
    near = [run for run in rows[1:] if luck(rows[0], run) is not None] if rows else []
    if not near:
        return []
    error = luck(rows[0], near[0])
    return [
        f"{_count(len(near), 'job')} within one standard error of the best ({error:.4f} on {rows[0]['val_examples']} "
        "validation examples): which of them is better takes more seeds to tell"
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"


def _damages(rows: Sequence[Content]) -> list[str]:
    return [f"damaged: {printable(run['damage'])}" for run in rows if "damage" in run]


def _failures(rows: Sequence[Content]) -> list[str]:
    """A line for each reason: a search may fail in one way many times."""
    jobs: dict[str, list[str]] = {}
    for run in sorted(rows, key=lambda run: _job(run).zfill(9)):
        if run.get("error"):
            jobs.setdefault(run["error"], []).append(_job(run))
    return [printable(f"failed: {', '.join(names)}: {reason}") for reason, names in jobs.items()]


def _job(run: Content) -> str:
    return Path(run["folder"]).name


# ---- one run


def one(folder: Path) -> View:
    """What a run was, how it ended, and what its folder lacks."""
    run = detail(folder)
    splits = [split for split in SPLITS if None not in (run["results"].get(f"{split}/{name}") for name in SHOWN)]
    table = [results_table(run["results"], splits)] if splits else []
    missing = [("missing:", ""), *run["missing"].items()] if run["missing"] else []
    return run, [list_table(facts(run)), *table, *([list_table(missing)] if missing else [])]
