"""Means over the repeats of a run with several seeds."""

import math
import re
import shlex
import statistics
from collections.abc import Iterable, Sequence

from train_smarter.report.formatting import MISSING, Content, format_text
from train_smarter.report.runs import FINISHED, test_heading, test_value
from train_smarter.run.results import ranking_key
from train_smarter.terminal import format_table


def mean_columns(groups: Sequence[Content]) -> tuple[str, ...]:
    """The columns of the means."""
    return ("jobs", "best", "min", "max", test_heading(groups), "overrides")


# ---- the means of a multirun


def group_runs(rows: Sequence[Content]) -> list[Content]:
    """Jobs that differ by seed and fold alone, with their means, the best first; none where nothing was repeated."""
    alike: dict[tuple[str, ...], list[Content]] = {}
    for run in rows:
        if "damage" not in run:
            words = tuple(word for word in run["overrides"] if not _is_repeat_override(word))
            alike.setdefault(words, []).append(run)
    repeated = [
        _summarize_group(words, runs) for words, runs in alike.items() if len(set(map(_repeat_overrides, runs))) > 1
    ]
    groups = [group for group in repeated if group["best"]]
    if not any(group["best"]["n"] > 1 for group in groups):
        return []
    return sorted(groups, key=lambda group: ranking_key(group["best"]["mean"], group["mode"]))


def _is_repeat_override(word: str) -> bool:
    return re.match(r"\+*(seed|data\.fold)=", word) is not None


def _repeat_overrides(run: Content) -> tuple[str, ...]:
    """Which repetition a job is; a seed that was drawn stands in its record alone."""
    return str(run["seed"]), *filter(_is_repeat_override, run["overrides"])


def _summarize_group(words: Sequence[str], runs: Sequence[Content]) -> Content:
    """The overrides that jobs share, which of them count, out of how many, and their means.

    What a job that failed or was stopped has reached says nothing; a repetition that was done twice counts once.
    """
    counting = {
        _repeat_overrides(run): run
        for run in runs
        if run["status"] in FINISHED and run["best"] is not None and math.isfinite(run["best"])
    }
    return {
        "overrides": list(words),
        "jobs": [run["name"] for run in counting.values()],
        "of": len(set(map(_repeat_overrides, runs))),
        "monitor": runs[0]["monitor"],
        "mode": runs[0]["mode"],
        "best": _mean_and_std(run["best"] for run in counting.values()),
        "metrics": runs[0]["metrics"],
        test_heading(runs): _mean_and_std(map(test_value, counting.values())),
    }


def _mean_and_std(values: Iterable[int | float | None]) -> Content | None:
    """Mean and sample standard deviation of the values that are known; one alone has no deviation."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "std": deviation, "n": len(known), "min": min(known), "max": max(known)}


def mean_rows(groups: Sequence[Content]) -> list[str]:
    if not groups:
        return []
    return [
        "\nmeans over seeds and folds ± sample standard deviation",
        format_table(map(mean_row, groups), *mean_columns(groups)),
    ]


def mean_row(group: Content) -> list[str]:
    """The values of the columns `mean_columns`."""
    best, count = group["best"], group["best"]["n"]
    jobs = str(count) if count == group["of"] else f"{count} of {group['of']}"
    ends = [format_text(best[end]) for end in ("min", "max")]
    words = shlex.join(group["overrides"]) or "all"
    return [
        jobs,
        f"{group['monitor']} {_format_mean(best)}",
        *ends,
        _format_mean(group.get(test_heading([group]))),
        words,
    ]


def _format_mean(spread: Content | None) -> str:
    if spread is None:
        return MISSING
    return format_text(spread["mean"]) if spread["std"] is None else f"{spread['mean']:.4f} ± {spread['std']:.4f}"
