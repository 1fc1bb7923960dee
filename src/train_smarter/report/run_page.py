"""The report page of a run."""

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import OmegaConf

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.history import saved_config
from train_smarter.report import run_plots, runs, views
from train_smarter.report.formatting import Content
from train_smarter.report.html import (
    MAX_CONFIG,
    MAX_NAME,
    format_html_value,
    render,
    shrink_to_limit,
    truncate,
)
from train_smarter.report.logged_curves import group_columns
from train_smarter.report.verdict import verdict
from train_smarter.run import files, run_dir
from train_smarter.task.sections import expected_sections
from train_smarter.terminal import format_duration, format_metric

MAX_FINDINGS = 50  # shown of a diagnosis
SEVERITIES = ("problem", "warning", "note")
RUNNING = "not yet: it is running"
FILES = {  # that the sections are read from, in their order
    "curves": "metrics.csv",
    "diagnosis": "diagnosis.json",
    "classes": "results.json",
    "details": "results.json",
    "predictions": "samples.json",
    "examples": "examples.json",
    "calibration": "calibration.json",
    "layers": "layers.csv",
    "time": "metrics.csv",
}


# ---- one run


def run_page(folder: Path) -> str:
    run = runs.run_sections(folder)
    return shrink_to_limit(lambda most: _render_run(folder, run, most))


def _render_run(folder: Path, run: Content, most: int) -> str:
    again = _regenerate_command(folder, run)
    draw: dict[str, Callable[[Path], Content]] = {
        "diagnosis": _diagnosis_section,
        "curves": lambda path: _curves_section(path, run),
        "classes": lambda path: _classes_section(path, most),
        "details": lambda path: views.details_section(path, most),
        "predictions": views.predictions_section,
        "examples": views.examples_section,
        "calibration": _calibration_section,
        "layers": lambda path: _layers_section(path, most),
        "time": lambda path: _time_section(path, run, folder),
    }
    belongs = _sections_of(folder)
    sections = {name: _render_or_explain(draw[name], folder / FILES[name], again) for name in FILES if name in belongs}
    splits = [split for split in runs.SPLITS if any(name.startswith(f"{split}/") for name in run["results"])]
    own = {name: value for name, value in run["results"].items() if name.partition("/")[0] not in splits}
    repeat = {"again": f"train rerun={run_dir.display_name(folder, paths.LOGS)}", "config": _config_section(folder)}
    return render(
        "run.html",
        run=run,
        facts=[fact for fact in runs.run_facts(run) if fact[0] != "command"],
        splits=splits,
        names=dict.fromkeys(name.partition("/")[2] for name in run["results"] if name not in own),
        own={truncate(name, MAX_NAME): format_metric(value) for name, value in own.items() if value is not None},
        verdict=verdict(run, folder),
        tiles=_tiles(run),
        weights=_weights_of(folder),
        nav=[{"curves": "results"}.get(name, name) for name in sections] + ["repeat"],
        sections=sections,
        **repeat,
    )


def _weights_of(folder: Path) -> str:
    """What the evaluated weights are, where they are not simply those of the best epoch."""
    file = folder / "results.json"
    weights = files.read_json(file).get("weights") if file.is_file() else None
    return weights if isinstance(weights, str) else ""


def _sections_of(folder: Path) -> set[str]:
    """The sections that belong to a run: what its folder holds, and what its task would have left there."""
    results = files.read_json(folder / "results.json") if (folder / "results.json").is_file() else {}
    found = {name for name, file in FILES.items() if file != "results.json" and (folder / file).is_file()}
    found |= {"classes"} if results.get("confusion") else set()
    found |= {"details"} if views.has_details(results) else set()
    try:
        config: Any = OmegaConf.to_container(saved_config.load_saved_config(folder), resolve=False)
        return {"curves", "time", *found, *expected_sections(config)}
    except runs.DAMAGE:
        return {"curves", "time", *found}


def _render_or_explain(section: Callable[[Path], Content], path: Path, again: str) -> Content:
    """What a section shows; of a file that cannot be shown, why, and what to type."""
    if not path.is_file():
        return {"missing": f"{path.name} is not in this run's folder.", "again": again}
    try:
        return section(path)
    except Exception as error:  # a damaged file fails in many ways
        why = error if isinstance(error, UserError) else f"{path} is damaged, or of another version: {error!r}"
        return {"missing": str(why), "again": again}


def _regenerate_command(folder: Path, run: Content) -> str:
    """What to type for what this run lacks: it goes on, if it broke off; else once more, with today's config."""
    if run["status"] == "running":
        return RUNNING
    if run["untested"]:
        return f"train rerun={run_dir.display_name(folder, paths.LOGS)}"
    if run["status"] not in runs.FINISHED and "last" in run["checkpoints"]:
        return f"train resume={run_dir.display_name(folder, paths.LOGS)}"
    return shlex.join(["train", *run["overrides"]])


def _tiles(run: Content) -> list[tuple[str, str]]:
    """The few facts that a reader looks for first."""
    best = "" if run["best_epoch"] is None else f", epoch {run['best_epoch']}"
    known = {
        **{f"test {name}": run["results"].get(f"test/{name}") for name in _shown_metrics(run)[1:]},
        **{name: value for name, value in run["results"].items() if name.startswith("test_")},
        f"best {run['monitor']}{best}": run["best"],
    }
    tiles = [(name, format_metric(value)) for name, value in known.items() if value is not None]
    return [*tiles, *([("took", format_duration(run["seconds"]))] if run["seconds"] is not None else [])]


def _shown_metrics(run: Content) -> list[str]:
    """The loss, the headline and the last metric of the task: as many as a reader compares at once."""
    loss, *others = run["metrics"]
    return list(dict.fromkeys([loss, *others[:1], *others[-1:]]))


def _config_section(folder: Path) -> str:
    try:
        config = OmegaConf.to_container(saved_config.load_saved_config(folder), resolve=False)
        text = OmegaConf.to_yaml(OmegaConf.create(config))
    except runs.DAMAGE as error:
        return str(error)
    return truncate(text, MAX_CONFIG)


def _diagnosis_section(path: Path) -> Content:
    content = files.read_json(path)
    findings = [
        _finding_entry(one, run_dir.display_name(path.parent, paths.LOGS)) for one in content["findings"][:MAX_FINDINGS]
    ]
    known = list(dict(content.get("measured") or {}).items())[:MAX_FINDINGS]
    measured = {truncate(str(name), MAX_NAME): truncate(format_html_value(value), MAX_NAME) for name, value in known}
    return {"findings": sorted(findings, key=lambda one: SEVERITIES.index(one["severity"])), "measured": measured}


def _finding_entry(one: Content, name: str) -> Content:
    severity = one["severity"] if one["severity"] in SEVERITIES else "note"
    texts = {key: str(one.get(key) or "") for key in ("name", "evidence", "where")}
    words = [str(word) for word in (one.get("advice") or [])[:MAX_FINDINGS]]
    # The folder may be a stranger's: what is offered to be copied sets a plain key, and no `_target_`.
    advice = [
        f"train rerun={name} {shlex.quote(word)}" for word in words if re.fullmatch(r"[a-z]\w*(\.[a-z]\w*)*=.+", word)
    ]
    return {**texts, "severity": severity, "advice": advice}


def _curves_section(path: Path, run: Content) -> Content:
    rows = files.read_csv(path)
    charts = {name: {split: f"{split}/{name}" for split in ("train", "val")} for name in _shown_metrics(run)}
    if rows and not any(column in rows[0] for chart in charts.values() for column in chart.values()):
        charts = group_columns(rows[0])  # of a LightningModule without a task
    plots = []
    for name, columns in charts.items():
        series = {split: _curve_points(rows, column) for split, column in columns.items()}
        series = {split: points for split, points in series.items() if points}
        if series:
            alt = f"{name} of {' and '.join(series)} over the epochs"
            plots.append(run_plots.curves(name, series, best=run["best_epoch"], name=f"curve-{name}", alt=alt))
    return {"plots": plots} if plots else {"missing": f"{path.name} holds no finished epoch.", "again": ""}


def _curve_points(rows: Sequence[Mapping[str, str]], column: str, over: str = "epoch") -> list[tuple[float, float]]:
    found = [(float(row[over]), float(row[column])) for row in rows if row.get(column)]
    return [point for point in found if all(map(math.isfinite, point))]


def _classes_section(path: Path, most: int) -> Content:
    """The confusion matrix of the last split, usually the test's, and each class on its own."""
    confusion = files.read_json(path).get("confusion") or {}
    if not confusion:
        return {"missing": "results.json holds no confusion matrix: the run was not tested.", "again": ""}
    split, counts = list(confusion.items())[-1]
    counts = [[int(count) for count in row] for row in counts]
    names = views.names_of(path.parent, len(counts))
    table = sorted(class_scores(counts, names), key=lambda one: one["f1"])
    alt = f"confusion matrix of {split}: {len(names)} classes"
    drawn = run_plots.confusion(counts, names, name="confusion", alt=alt)
    return {"split": split, "plot": drawn, "table": table[:most], "count": len(names)}


def class_scores(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[Content]:
    """Precision, recall and F1 of each class, how many examples it has, and what it is taken for most often.

    counts: (K, K), row = true class, column = predicted. What has no denominator is 0, as in the metrics.
    """
    predicted = [sum(column) for column in zip(*counts, strict=True)]
    found = []
    for place, row in enumerate(counts):
        hits, true = row[place], sum(row)
        others = [0 if other == place else count for other, count in enumerate(row)]
        mistaken = f"{names[others.index(max(others))]} ({max(others)})" if max(others) else ""
        scores = {
            "precision": hits / max(1, predicted[place]),
            "recall": hits / max(1, true),
            "f1": 2 * hits / max(1, true + predicted[place]),
        }
        found.append({"name": names[place], **scores, "count": true, "mistaken": mistaken})
    return found


def _calibration_section(path: Path) -> Content:
    content = files.read_json(path)
    split = list(content)[-1]
    errors = {name: float(part["ece"]) for name, part in content.items()}
    alt = f"accuracy over confidence on {split}: on average {errors[split]:.1%} apart"
    drawn = run_plots.reliability(content[split]["bins"], name="reliability", alt=alt)
    return {"split": split, "errors": errors, "plot": drawn, "tendency": _confidence_tendency(content[split]["bins"])}


def _confidence_tendency(bins: Sequence[Mapping[str, Any]]) -> str:
    """Whether a model is surer than it is right, over all examples."""
    gap = sum(one["count"] * (one["confidence"] - one["accuracy"]) for one in bins if one["count"])
    gap /= max(1, sum(one["count"] for one in bins))
    if abs(gap) < 0.005:
        return "On the whole it is as sure as it is right."
    return f"On the whole it is {abs(gap):.1%} {'surer than it is right' if gap > 0 else 'less sure than it is right'}."


def _layers_section(path: Path, most: int) -> Content:
    layers: dict[str, list[dict[str, str]]] = {}
    for row in files.read_csv(path):
        layers.setdefault(row["layer"], []).append(row)
    titles = {
        "grad_norm": "gradient norm",
        "weight_norm": "weight norm",
        "update_ratio": "size of a step / weights",
        "dead_relu_fraction": "share of dead units",
    }
    plots = []
    for column, title in titles.items():
        series = {name: _curve_points(rows, column) for name, rows in list(layers.items())[:most]}
        if any(y > 0 for points in series.values() for _, y in points):
            alt = f"{title} of each layer over the epochs"
            plots.append(
                run_plots.layers(title, series, log=column != "dead_relu_fraction", name=f"layers-{column}", alt=alt)
            )
    return {"plots": plots} if plots else {"missing": f"{path.name} holds no numbers.", "again": ""}


def _time_section(path: Path, run: Content, folder: Path) -> Content:
    points = _curve_points(files.read_csv(path), "seconds")
    results = files.read_json(folder / "results.json") if (folder / "results.json").is_file() else {}
    told = {"all of it": format_duration(run["seconds"])} if run["seconds"] is not None else {}
    each = run["train_epoch_seconds_median"] or (median(y for _, y in points[1:] or points) if points else None)
    if each:
        told["training batches of an epoch (median)"] = f"{each:.3g} s"
        if seen := _examples_per_epoch(folder, results):
            told["training examples a second"] = f"{seen / each:,.0f}"
    if results.get("parameters"):
        told["trainable parameters"] = f"{int(results['parameters']):,}"
    alt = "seconds of training in each epoch"
    plots = [run_plots.curves("seconds an epoch", {"train": points}, name="seconds", alt=alt)] if points else []
    return {"facts": told, "plots": plots}


def _examples_per_epoch(folder: Path, results: Content) -> int | None:
    """As many as the whole training split has; unknown where the run saw a part of it."""
    counts = (results.get("confusion") or {}).get("train")  # of a run that has not recorded the number
    examples = results.get("train_examples") or (sum(map(sum, counts)) if counts else None)
    trainer = saved_config.load_saved_config(folder).get("trainer") or {}
    limits = {trainer.get(f"limit_{part}_batches") for part in ("train", "test")} - {None, 1.0}
    return examples if not limits and not trainer.get("fast_dev_run") else None
