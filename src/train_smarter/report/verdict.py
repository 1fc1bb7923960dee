"""The sentences at the top of a run's page: how good the model is, and what the diagnosis found."""

import math
from pathlib import Path

from train_smarter.metric_names import headline
from train_smarter.report.formatting import Content
from train_smarter.report.runs import DAMAGE
from train_smarter.run import files
from train_smarter.terminal import format_metric


def verdict(run: Content, folder: Path) -> str:
    """Return the sentences; empty for a run without a result and without a diagnosis.

    Args:
        run: as `run_sections` returns it.
    """
    found = [str(name).replace("_", " ") for name in run["found"]]
    if found:
        diagnosis = f"The diagnosis found: {', '.join(found)}."
    else:
        diagnosis = "The diagnosis found nothing to mend." if (folder / "diagnosis.json").is_file() else ""
    return " ".join(filter(None, [_result_sentence(run, folder), diagnosis]))


def _result_sentence(run: Content, folder: Path) -> str:
    """The headline metric on the test split, else the best value of the monitored metric."""
    name = headline(run["metrics"])
    value = run["results"].get(f"test/{name}")
    if value is None:
        if run["best"] is None:
            return ""
        where = "" if run["best_epoch"] is None else f", in epoch {run['best_epoch']}"
        return f"The best {run['monitor']} is {format_metric(run['best'])}{where}."
    lower = " (lower is better)" if run["metrics"].get(name) == "min" else ""
    return f"On the test split, {name} is {format_metric(value)}{test_noise(run, folder)}{lower}."


def test_noise(run: Content, folder: Path) -> str:
    """The standard error of the headline, where it is the share of examples that a confusion matrix counts as right."""
    value = run["results"].get(f"test/{headline(run['metrics'])}")
    try:
        counts = files.read_json(folder / "results.json")["confusion"]["test"]
        total = sum(map(sum, counts))
        right = sum(row[place] for place, row in enumerate(counts)) / total
    except (*DAMAGE, ZeroDivisionError):
        return ""
    if value is None or abs(right - value) > 1e-4:
        return ""
    return f" ± {math.sqrt(right * (1 - right) / total):.4f} (standard error, {total:,} examples)"
