"""Means over the repeats of a run with several seeds."""

import math
import re
import shlex
import statistics
from collections.abc import Iterable, Sequence

from train_smarter.report.formatting import NONE, Content, _text
from train_smarter.report.runs import FINISHED, _rank
from train_smarter.terminal import list_table

MEANS = ("jobs", "best", "min", "max", "test/accuracy", "overrides")  # columns of the means


# ---- the means of a multirun


def _groups(rows: Sequence[Content]) -> list[Content]:
    """Jobs that differ by seed and fold alone, with their means, the best first; none where nothing was repeated."""
    alike: dict[tuple[str, ...], list[Content]] = {}
    for run in rows:
        if "damage" not in run:
            words = tuple(word for word in run["overrides"] if not _of_a_repeat(word))
            alike.setdefault(words, []).append(run)
    repeated = [_group(words, runs) for words, runs in alike.items() if len(set(map(_repeat, runs))) > 1]
    groups = [group for group in repeated if group["best"]]
    if not any(group["best"]["n"] > 1 for group in groups):
        return []
    return sorted(groups, key=lambda group: _rank({"best": group["best"]["mean"], "mode": group["mode"]}))


def _of_a_repeat(word: str) -> bool:
    return re.match(r"\+*(seed|data\.fold)=", word) is not None


def _repeat(run: Content) -> tuple[str, ...]:
    """Which repetition a job is; a seed that was drawn stands in its record alone."""
    return str(run["seed"]), *filter(_of_a_repeat, run["overrides"])


def _group(words: Sequence[str], runs: Sequence[Content]) -> Content:
    """The overrides that jobs share, which of them count, out of how many, and their means.

    What a job that failed or was stopped has reached says nothing; a repetition that was done twice counts once.
    """
    counting = {
        _repeat(run): run
        for run in runs
        if run["status"] in FINISHED and run["best"] is not None and math.isfinite(run["best"])
    }
    return {
        "overrides": list(words),
        "jobs": [run["name"] for run in counting.values()],
        "of": len(set(map(_repeat, runs))),
        "monitor": runs[0]["monitor"],
        "mode": runs[0]["mode"],
        "best": _spread(run["best"] for run in counting.values()),
        "test/accuracy": _spread(run["test/accuracy"] for run in counting.values()),
    }


def _spread(values: Iterable[int | float | None]) -> Content | None:
    """Mean and sample standard deviation of the values that are known; one alone has no deviation."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "std": deviation, "n": len(known), "min": min(known), "max": max(known)}


def _means(groups: Sequence[Content]) -> list[str]:
    if not groups:
        return []
    return ["\nmeans over seeds and folds ± sample standard deviation", list_table(map(mean_row, groups), *MEANS)]


def mean_row(group: Content) -> list[str]:
    """The values of the columns `MEANS`."""
    best, count = group["best"], group["best"]["n"]
    jobs = str(count) if count == group["of"] else f"{count} of {group['of']}"
    ends = [_text(best[end]) for end in ("min", "max")]
    words = shlex.join(group["overrides"]) or "all"
    return [jobs, f"{group['monitor']} {_mean(best)}", *ends, _mean(group["test/accuracy"]), words]


def _mean(spread: Content | None) -> str:
    if spread is None:
        return NONE
    return _text(spread["mean"]) if spread["std"] is None else f"{spread['mean']:.4f} ± {spread['std']:.4f}"
