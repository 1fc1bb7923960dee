"""The report as a page: one HTML file of a run or a multirun that needs no network, and opens from disk.

Written from what its folder holds. Each section has a file of its own: where that is missing, damaged or of an older
version, the section says so, and the others stand. Names, texts and commands may be a stranger's, and are escaped.
"""

import logging
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf

from train_smarter import past, plot, record, report, trials
from train_smarter.error import UserError
from train_smarter.paths import LOGS
from train_smarter.report import Content
from train_smarter.sanitize import printable
from train_smarter.screen import SHOWN, show, took
from train_smarter.trials import Trial, Trials

if TYPE_CHECKING:
    from optuna import Study

log = logging.getLogger(__name__)

LIMIT = 1_900_000  # bytes of a page
ROWS = (1000, 400, 150, 50, 15)  # trials or classes shown; the first number with which the page is within the limit
FINDINGS = 50  # shown of a diagnosis
GROUPS = 40  # means over seeds and folds shown
IMAGES = 800_000  # characters of examples in all
TEXT = 2000  # characters shown of an example's text
NAME = 200  # ... of a name or a choice
CONFIG = 20_000  # ... of a config, and of any text
CURVES = ("loss", "accuracy", "f1")
SEVERITIES = ("problem", "warning", "note")
NEVER = "not yet: it is running"


def write(folder: Path, target: Path | None = None, *, study: "Study | None" = None) -> Path:
    """Writes the page of a run or a multirun, as a whole file; returns where: `target`, or report.html in the folder.

    study: of the search, where it is open already.

    Raises:
        UserError: it cannot be written there, or the run's own record is damaged.
    """
    path = folder / "report.html" if target is None else target
    text = run_page(folder) if past.is_run(folder) else multirun_page(folder, study=study)
    try:
        record.write_whole(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): output=<file> puts it elsewhere") from error
    return path


def leave(folder: Path, *, study: "Study | None" = None) -> None:
    """Writes the page at the end of a run or a search, which does not fail because it cannot be drawn."""
    try:
        show(f"report:      {write(folder, study=study)}")
    except Exception as error:
        log.warning("report.html is not written: %s", error, exc_info=not isinstance(error, UserError))


def _fitting(page: Callable[[int], str]) -> str:
    """The longest page that is within the limit; `page` makes one with so many trials or classes."""
    for most in ROWS:
        text = page(most)
        if len(text.encode()) <= LIMIT:
            break
    return text


# ---- one run


def run_page(folder: Path) -> str:
    run = report.detail(folder)
    return _fitting(lambda most: _run_page(folder, run, most))


def _run_page(folder: Path, run: Content, most: int) -> str:
    again = _again(folder, run)
    sections = {
        "diagnosis": _told(_diagnosis, folder / "diagnosis.json", again),
        "curves": _told(_curves, folder / "metrics.csv", again, run),
        "classes": _told(_classes, folder / "results.json", again, most),
        "examples": _told(_examples, folder / "examples.json", again),
        "calibration": _told(_calibration, folder / "calibration.json", again),
        "layers": _told(_layers, folder / "layers.csv", again, most),
        "time": _told(_time, folder / "metrics.csv", again, run, folder),
    }
    splits = [split for split in report.SPLITS if f"{split}/accuracy" in run["results"]]
    repeat = {"again": f"train rerun={past.named(folder, LOGS)}", "config": _config(folder)}
    return _rendered(
        "run.html",
        run=run,
        facts=[fact for fact in report.facts(run) if fact[0] != "command"],
        splits=splits,
        names=SHOWN,
        tiles=_tiles(run),
        **repeat,
        **sections,
    )


def _told(section: Callable[..., Content], path: Path, again: str, *known: Any) -> Content:
    """What a section shows; of a file that cannot be shown, why, and what to type."""
    if not path.is_file():
        return {"missing": f"{path.name} is not in this run's folder.", "again": again}
    try:
        return section(path, *known)
    except Exception as error:  # a damaged file fails in many ways
        why = error if isinstance(error, UserError) else f"{path} is damaged, or of another version: {error!r}"
        return {"missing": str(why), "again": again}


def _again(folder: Path, run: Content) -> str:
    """What to type for what this run lacks: it goes on, if it broke off; else once more, with today's config."""
    if run["status"] == "running":
        return NEVER
    if run["untested"]:
        return f"train rerun={past.named(folder, LOGS)}"
    if run["status"] not in report.FINISHED and "last" in run["checkpoints"]:
        return f"train resume={past.named(folder, LOGS)}"
    return shlex.join(["train", *run["overrides"]])


def _tiles(run: Content) -> list[tuple[str, str]]:
    """The few facts that a reader looks for first."""
    best = "" if run["best_epoch"] is None else f", epoch {run['best_epoch']}"
    known = {
        "test accuracy": run["results"].get("test/accuracy"),
        "test F1": run["results"].get("test/f1"),
        f"best {run['monitor']}{best}": run["best"],
    }
    tiles = [(name, f"{value:.4f}") for name, value in known.items() if value is not None]
    return [*tiles, *([("took", took(run["seconds"]))] if run["seconds"] is not None else [])]


def _config(folder: Path) -> str:
    try:
        config = OmegaConf.to_container(past.recorded(folder), resolve=False)
        text = OmegaConf.to_yaml(OmegaConf.create(config))
    except report.DAMAGE as error:
        return str(error)
    return _cut(text, CONFIG)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def _diagnosis(path: Path) -> Content:
    content = record.read_json(path)
    findings = [_finding(one, past.named(path.parent, LOGS)) for one in content["findings"][:FINDINGS]]
    known = list(dict(content.get("measured") or {}).items())[:FINDINGS]
    measured = {_cut(str(name), NAME): _cut(_shown(value), NAME) for name, value in known}
    return {"findings": sorted(findings, key=lambda one: SEVERITIES.index(one["severity"])), "measured": measured}


def _finding(one: Content, name: str) -> Content:
    severity = one["severity"] if one["severity"] in SEVERITIES else "note"
    texts = {key: str(one.get(key) or "") for key in ("name", "evidence", "where")}
    words = [str(word) for word in (one.get("advice") or [])[:FINDINGS]]
    # The folder may be a stranger's: what is offered to be copied sets a plain key, and no `_target_`.
    advice = [
        f"train rerun={name} {shlex.quote(word)}" for word in words if re.fullmatch(r"[a-z]\w*(\.[a-z]\w*)*=.+", word)
    ]
    return {**texts, "severity": severity, "advice": advice}


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _curves(path: Path, run: Content) -> Content:
    rows = record.rows(path)
    plots = []
    for name in CURVES:
        series = {split: _points(rows, f"{split}/{name}") for split in ("train", "val")}
        series = {split: points for split, points in series.items() if points}
        if series:
            alt = f"{name} of {' and '.join(series)} over the epochs"
            plots.append(plot.curves(name, series, best=run["best_epoch"], name=f"curve-{name}", alt=alt))
    return {"plots": plots} if plots else {"missing": f"{path.name} holds no finished epoch.", "again": ""}


def _points(rows: Sequence[Mapping[str, str]], column: str, over: str = "epoch") -> list[tuple[float, float]]:
    found = [(float(row[over]), float(row[column])) for row in rows if row.get(column)]
    return [point for point in found if all(map(math.isfinite, point))]


def _classes(path: Path, most: int) -> Content:
    """The confusion matrix of the last split, usually the test's, and each class on its own."""
    confusion = record.read_json(path).get("confusion") or {}
    if not confusion:
        return {"missing": "results.json holds no confusion matrix: the run was not tested.", "again": ""}
    split, counts = list(confusion.items())[-1]
    counts = [[int(count) for count in row] for row in counts]
    names = _names(path.parent, len(counts))
    table = sorted(class_scores(counts, names), key=lambda one: one["f1"])
    alt = f"confusion matrix of {split}: {len(names)} classes"
    drawn = plot.confusion(counts, names, name="confusion", alt=alt)
    return {"split": split, "plot": drawn, "table": table[:most], "count": len(names)}


def _names(folder: Path, count: int) -> list[str]:
    """Of the classes; their numbers where preprocess.json is missing or does not fit."""
    try:
        names = [_cut(str(name), NAME) for name in record.read_json(folder / "preprocess.json")["names"]]
    except report.DAMAGE:
        names = []
    return names if len(names) == count else list(map(str, range(count)))


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


def _examples(path: Path) -> Content:
    examples, room = [], IMAGES
    for one in record.read_json(path):
        image, text = _image(one.get("image") or ""), _cut(str(one.get("text") or ""), TEXT)
        room -= len(image) + len(text)
        if room < 0:
            break
        said = {key: _cut(str(one[key]), NAME) for key in ("split", "true", "predicted")}
        probability = f"{float(one['probability']):.1%}"
        examples.append({**said, "probability": probability, "right": bool(one["right"]), "image": image, "text": text})
    if not any(one["image"] or one["text"] for one in examples):
        return {"missing": "The inputs are neither images nor texts, or no sample was kept.", "again": ""}
    mistakes, hits = ([one for one in examples if one["right"] == right] for right in (False, True))
    return {"split": examples[0]["split"], "mistakes": mistakes, "hits": hits}


def _image(text: Any) -> Markup:
    """Base64, to be left as it is, however long."""
    if not re.fullmatch(r"[A-Za-z0-9+/=]*", text):
        raise ValueError("an image is not in base64")
    return Markup(text)


def _calibration(path: Path) -> Content:
    content = record.read_json(path)
    split = list(content)[-1]
    errors = {name: float(part["ece"]) for name, part in content.items()}
    alt = f"accuracy over confidence on {split}: on average {errors[split]:.1%} apart"
    drawn = plot.reliability(content[split]["bins"], name="reliability", alt=alt)
    return {"split": split, "errors": errors, "plot": drawn, "tendency": _tendency(content[split]["bins"])}


def _tendency(bins: Sequence[Mapping[str, Any]]) -> str:
    """Whether a model is surer than it is right, over all examples."""
    gap = sum(one["count"] * (one["confidence"] - one["accuracy"]) for one in bins if one["count"])
    gap /= max(1, sum(one["count"] for one in bins))
    if abs(gap) < 0.005:
        return "On the whole it is as sure as it is right."
    return f"On the whole it is {abs(gap):.1%} {'surer than it is right' if gap > 0 else 'less sure than it is right'}."


def _layers(path: Path, most: int) -> Content:
    layers: dict[str, list[dict[str, str]]] = {}
    for row in record.rows(path):
        layers.setdefault(row["layer"], []).append(row)
    titles = {
        "gradient_norm": "gradient norm",
        "weight_norm": "weight norm",
        "update_ratio": "size of a step / weights",
        "dead": "share of dead units",
    }
    plots = []
    for column, title in titles.items():
        series = {name: _points(rows, column) for name, rows in list(layers.items())[:most]}
        if any(y > 0 for points in series.values() for _, y in points):
            alt = f"{title} of each layer over the epochs"
            plots.append(plot.layers(title, series, log=column != "dead", name=f"layers-{column}", alt=alt))
    return {"plots": plots} if plots else {"missing": f"{path.name} holds no numbers.", "again": ""}


def _time(path: Path, run: Content, folder: Path) -> Content:
    points = _points(record.rows(path), "seconds")
    results = record.read_json(folder / "results.json") if (folder / "results.json").is_file() else {}
    told = {"all of it": took(run["seconds"])} if run["seconds"] is not None else {}
    each = run["seconds_per_epoch"] or (median(y for _, y in points[1:] or points) if points else None)
    if each:
        told["training batches of an epoch (median)"] = f"{each:.3g} s"
        if seen := _examples_an_epoch(folder, results):
            told["training examples a second"] = f"{seen / each:,.0f}"
    if results.get("parameters"):
        told["trainable parameters"] = f"{int(results['parameters']):,}"
    alt = "seconds of training in each epoch"
    plots = [plot.curves("seconds an epoch", {"train": points}, name="seconds", alt=alt)] if points else []
    return {"facts": told, "plots": plots}


def _examples_an_epoch(folder: Path, results: Content) -> int | None:
    """As many as the whole training split has; unknown where the run saw a part of it."""
    counts = (results.get("confusion") or {}).get("train")
    trainer = past.recorded(folder).get("trainer") or {}
    limits = {trainer.get(f"limit_{part}_batches") for part in ("train", "test")} - {None, 1.0}
    return sum(map(sum, counts)) if counts and not limits and not trainer.get("fast_dev_run") else None


# ---- many runs


def multirun_page(folder: Path, *, study: "Study | None" = None) -> str:
    """study: of the search, where it is open already."""
    content, _ = report.multirun(folder)
    found, why = (trials.of_study(study, folder), "") if study is not None else _trials(folder, content)
    best = next((one for one in found.trials if one.best), None)
    known = {
        "content": content,
        "found": found,
        "why": why,
        "best": best,
        "chosen": [f"{key}={_cell(value)}" for key, value in best.params.items()] if best else [],
        "came_to": _came_to,
        "tested": _tested(folder, best, content),
        "tiles": _counts(found, best),
        "means": _means(content["groups"], found),
        "importances": _importance(found),
        "repeat": _repeat(folder, content),
        "commands": _commands(folder, best, found),
    }
    return _fitting(lambda most: _rendered("multirun.html", **known, **_of_trials(found, most)))


def _of_trials(found: Trials, most: int) -> Content:
    """What grows with the number of trials."""
    shown = found.trials[:most]
    return {
        "shown": [(one, [_cell(one.params.get(key)) for key in found.params]) for one in shown],
        "failures": [(one, _cut(one.trace, TEXT)) for one in _unfinished(found)[:most]],
        "history": _history(found, shown),
        "front": _front(found, shown),
        "parallel": _parallel(found, shown),
    }


def _trials(folder: Path, content: Content) -> tuple[Trials, str]:
    """Those of the study in the folder; without one, or with a damaged one, those that left a folder, and why."""
    if not (folder / "study.log").is_file():
        return trials.of_folders(content), ""
    try:
        return trials.of_study(trials.stored(folder / "study.log"), folder), ""
    except Exception as error:  # a damaged file fails in many ways
        return trials.of_folders(content), f"study.log cannot be read ({error!r}): what follows is from the folders."


def _counts(found: Trials, best: Trial | None) -> list[tuple[str, str]]:
    counts = [(state, str(found.count(state))) for state in trials.STATES if found.count(state)]
    if best is None or len(found.objectives) > 1:
        return counts
    return [(f"best {next(iter(found.objectives))}", _came_to(best.values[0])), *counts]


def _tested(folder: Path, best: Trial | None, content: Content) -> float | None:
    """The best trial's accuracy on the test split: a grid's job has it, a search asks for it at its end."""
    if best is None:
        return None
    known = next((run.get("test/accuracy") for run in content["jobs"] if Path(run["folder"]).name == best.name), None)
    path = folder / best.name / "evaluate" / "results.json"
    try:
        later = record.read_json(path).get("test/accuracy") if path.is_file() else None
        return known if known is not None or later is None else float(later)
    except report.DAMAGE:
        return known


def _cell(value: Any) -> str:
    """A choice, to four digits."""
    return report.NONE if value is None else f"{value:.4g}" if isinstance(value, float) else _cut(str(value), NAME)


def _came_to(value: float) -> str:
    """What a trial came to: a share, a loss, or a count."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.7g}"


def _said(trial: Trial, objectives: Mapping[str, str]) -> str:
    """What is shown over a trial in a plot."""
    values = ", ".join(f"{name} {_came_to(value)}" for name, value in zip(objectives, trial.values, strict=False))
    state = "" if trial.state == "complete" else f", {trial.state}"
    return f"{trial.name}{state}: {values}"


def _unfinished(found: Trials) -> list[Trial]:
    """Those that were pruned or failed, with their reasons; the failed ones first."""
    return sorted((one for one in found.trials if one.reason), key=lambda one: one.state != "failed")


def _history(found: Trials, shown: Sequence[Trial]) -> list[Markup]:
    plots = []
    for place, (name, mode) in enumerate(found.objectives.items()):
        points = [
            (one.name, number, one.values[place], one.state, _said(one, found.objectives))
            for number, one in _numbered(shown)
            if len(one.values) > place
        ]
        if points:
            alt = f"{name} of each trial in their order, and the best so far"
            plots.append(plot.history(name, points, mode=mode, name=f"history-{place}", alt=alt))
    return plots


def _numbered(shown: Sequence[Trial]) -> list[tuple[int, Trial]]:
    """Trials in the order of their numbers; a job's folder that has none counts by its place."""
    numbered = [(int(one.name) if one.name.isdigit() else place, one) for place, one in enumerate(shown)]
    return sorted(numbered, key=lambda pair: pair[0])


def _front(found: Trials, shown: Sequence[Trial]) -> Markup | None:
    """Of two objectives or more, the first two."""
    names = tuple(found.objectives)[:2]
    points = [
        (one.name, *one.values[:2], one.best, _said(one, found.objectives)) for one in shown if len(one.values) > 1
    ]
    if not points:
        return None
    return plot.scatter(names, points, name="front", alt=f"{names[0]} and {names[1]} of each trial")


def _importance(found: Trials) -> list[Markup]:
    return [
        plot.bars(
            f"importance for {objective}",
            weights,
            unit="share of the variance",
            name=f"importance-{place}",
            alt=f"importances for {objective}",
        )
        for place, (objective, weights) in enumerate(found.importances.items())
    ]


def _parallel(found: Trials, shown: Sequence[Trial]) -> Markup | None:
    """Trials that have a value, through the most important of their parameters."""
    known = [one for one in shown if one.values]
    if len(known) < 2 or not found.params:
        return None
    columns = {key: [one.params.get(key) for one in known] for key in found.params[: plot.AXES]}
    for place, (name, mode) in enumerate(found.objectives.items()):
        reached = [at for at, one in enumerate(known) if len(one.values) > place]
        heights = plot.bounded([known[at].values[place] for at in reached], mode)
        by_place = dict(zip(reached, heights, strict=True))
        columns[f"{name} "] = list(map(by_place.get, range(len(known))))  # a space more than a choice of that name
    strengths = [1 - place / len(known) for place in range(len(known))]  # the best come first
    texts = [_said(one, found.objectives) for one in known]
    alt = f"parallel coordinates of {len(known)} trials"
    return plot.parallel(
        columns, [one.name for one in known], strengths, texts, log=found.log, name="parallel", alt=alt
    )


def _means(groups: Sequence[Content], found: Trials) -> Content:
    groups = groups[:GROUPS]
    names = {shlex.join(group["overrides"]) or "all": group["best"] for group in groups}
    if not names:
        return {}
    rows = [report.mean_row(group) for group in groups]
    alt = "mean and deviation of each group"
    drawn = plot.spreads(next(iter(found.objectives)), names, name="means", alt=alt) if len(names) > 1 else None
    return {"columns": report.MEANS, "rows": rows, "plot": drawn}


def _repeat(folder: Path, content: Content) -> list[tuple[str, str]]:
    """The command that began it, with commit, versions and hardware: those of its first job that has a record."""
    for job in past.jobs(folder):
        try:
            facts = dict(report.facts(report.detail(job)))
        except UserError:
            continue
        if "command" in facts:
            kept = ("command", "start", "commit", "packages", "hardware")
            return [("folder", content["folder"]), *((name, facts[name]) for name in kept if name in facts)]
    return [("folder", content["folder"])]


def _commands(folder: Path, best: Trial | None, found: Trials) -> dict[str, str]:
    """What to type next. A search that keeps its study elsewhere goes on by the command that began it alone."""
    name, commands = past.named(folder, LOGS), {}
    goes_on = not found.searched or (folder / "study.log").is_file()
    if best is not None:
        one, of = ("the best", "") if len(found.objectives) == 1 else (f"trial {best.name}", f"/{best.name}")
        commands[f"{one} in full, with several seeds"] = f"train -m rerun={name}{of} seed=1,2,3,4,5"
        commands[f"{one}, on a page of its own"] = f"report run={name}/{best.name}"
    if goes_on and found.count("complete") + found.count("pruned") < len(found.trials):
        commands["what is left to do"] = f"train -m resume={name}"
    if goes_on and found.searched:
        commands["more trials"] = f"train -m resume={name} hydra.sweeper.n_trials={2 * len(found.trials)}"
    return commands


# ---- HTML


def _rendered(template: str, **content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "template"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_legible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content, took=took)


def _legible(value: Any) -> Any:
    """Text without what a browser would not show, or show elsewhere: control characters, changes of direction."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(printable(line.replace("\t", "    ")) for line in _cut(value, CONFIG).splitlines())
