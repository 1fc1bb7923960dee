"""Summaries and details of runs, from their folders."""

import math
import re
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.history import saved_config
from train_smarter.metric_names import headline, mode_of, task_metrics
from train_smarter.report.formatting import MISSING, Content, format_seconds, format_text, format_time
from train_smarter.run import files, record, run_dir
from train_smarter.run import results as run_results

SPLITS = ("train", "val", "test")
FINISHED = ("done", "pruned")  # what becomes of a run that has gone as far as it was to go
DAMAGE = (UserError, OmegaConfBaseException, OSError, ValueError, TypeError, LookupError, AttributeError)


def summary(folder: Path) -> Content:
    """A run in a few words; of a damaged folder its name, and what is wrong with it."""
    try:
        return _read_summary(folder, *(_read_content(folder / name) for name in ("record.json", "results.json")))
    except DAMAGE as error:
        why = str(error) if isinstance(error, UserError) else f"{folder}: {error!r}"
        return {"name": _name_of(folder), "folder": str(folder), "status": "damaged", "damage": why}


def _read_summary(folder: Path, note: Content, results: Content) -> Content:
    status, chosen = record.status(folder), choices_of(folder)
    monitor = results.get("monitor", note.get("monitor"))
    known = next((content for content in (results, note) if content.get("best_value") is not None), None)
    best = known or run_results.best_of_epochs(folder, monitor, note.get("mode"))
    metrics = declared_metrics(note, results)
    test = f"test/{headline(metrics)}"
    return {
        "name": _name_of(folder),
        "folder": str(folder),
        "start": note.get("start"),
        "data": chosen.get("data"),
        "model": chosen.get("model"),
        "status": status,
        "error": _reason_of(note, status),
        "seed": note.get("seed"),
        "monitor": monitor,
        "mode": note.get("mode"),
        "best": _to_number(best["best_value"]),
        "best_epoch": _to_number(best.get("best_epoch")),
        "metrics": metrics,
        test: _to_number(results.get(test)),
        "seconds": _to_number(results.get("seconds", _duration(note, status))),
        "found": run_results.problem_names(folder),
        "val_examples": run_results.val_examples(folder),
        "overrides": [str(word) for word in note.get("overrides") or []],
    }


def declared_metrics(note: Content, results: Content) -> dict[str, str]:
    """{name: max | min}, the loss first; of a run that has not recorded them, those that it was evaluated by."""
    recorded = task_metrics({"task": {"metrics": note.get("metrics")}})
    tested = [key.partition("/")[2] for key in results if key.startswith("test/")]
    return recorded if len(recorded) > 1 or not tested else {name: mode_of(name, {}) for name in tested}


def test_heading(rows: Sequence[Content]) -> str:
    """The name of the column of test results: of the headline metric, where all runs have the same."""
    names = {_test_name(run) for run in rows if "metrics" in run}
    return names.pop() if len(names) == 1 else "test"


def test_value(run: Content) -> float | None:
    """The headline metric on the test split."""
    value: float | None = run.get(_test_name(run)) if "metrics" in run else None
    return value


def test_cell(run: Content, heading: str) -> str:
    """That value as text, with its name where the column has none."""
    value = test_value(run)
    return format_text(value) if value is None or heading != "test" else f"{_test_name(run)} {format_text(value)}"


def _test_name(run: Content) -> str:
    return f"test/{headline(run['metrics'])}"


def found_names(run: Content) -> str:
    return " ".join(run.get("found") or []) or MISSING


def accuracy_noise(one: Content, other: Content) -> float | None:
    """The standard error of an accuracy, where two of them lie closer together than that."""
    values = [run.get("best") for run in (one, other)]
    examples = min((run.get("val_examples") or 0 for run in (one, other)), default=0)
    comparable = one.get("monitor") == other.get("monitor") and str(one.get("monitor")).endswith("accuracy")
    if not examples or not comparable or not all(isinstance(value, float) and 0 <= value <= 1 for value in values):
        return None
    error = math.sqrt(values[0] * (1 - values[0]) / examples)  # type: ignore[operator]
    return error if abs(values[0] - values[1]) < error else None  # type: ignore[operator]


def _reason_of(note: Content, status: str) -> str | None:
    """The first line of what a run failed with."""
    error = str(note.get("error") or "").strip()
    return error.splitlines()[0] if status == "failed" and error else None


def started_at(folder: Path) -> tuple[str, str]:
    try:
        begun = str(_read_content(folder / "record.json")["start"])
    except DAMAGE:
        begun = datetime.fromtimestamp(folder.stat().st_ctime, UTC).isoformat(timespec="seconds")
    return begun, folder.name.zfill(9)  # the jobs of a second by their numbers


def run_sections(folder: Path) -> Content:
    """All that is known of a run.

    Raises:
        UserError: one of its files is damaged; a file that is not there is named under "missing".
    """
    try:
        note, results = (_read_content(folder / name) for name in ("record.json", "results.json"))
        run = _read_summary(folder, note, results)
        checkpoints = sorted(path.stem for path in (folder / "checkpoints").glob("*.ckpt"))
        return run | {
            "command": note.get("command"),
            "end": note.get("end"),
            "resumed": len(note.get("resumed") or []),
            "commit": note.get("commit"),
            "uncommitted": _diff_digest(note.get("diff")),
            "packages": dict(note.get("packages") or {}),
            "hardware": dict(note.get("hardware") or {}),
            "host": note.get("host"),
            "epochs": _to_number(results.get("epochs")),
            "train_epoch_seconds_median": _to_number(results.get("train_epoch_seconds_median")),
            "results": {name: _to_number(value) for name, value in run_results.metrics_of(results).items()},
            "checkpoints": checkpoints,
            "untested": _untested_message(folder, run["status"], results),
            "missing": _missing_parts(folder, run["status"], checkpoints, results),
        }
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{folder} is damaged: {error!r}") from error


def run_facts(run: Content) -> list[tuple[str, str]]:
    """A run's facts, each with its name; those that are not known are left out."""
    epoch = f" in epoch {run['best_epoch']}, counted from 0" if run["best_epoch"] is not None else ""
    changes = f", with uncommitted changes: {run['uncommitted']}" if run["uncommitted"] else ""
    again = f", resumed {run['resumed']} x" if run["resumed"] else ""
    why = f": {run['error']}" if run["error"] else ""
    known = {
        "run": run["name"],
        "folder": run["folder"],
        "command": run["command"],
        "data, model": f"{format_text(run['data'])}, {format_text(run['model'])}",
        "status": run["status"] + again + why,
        "start": format_time(run["start"]),
        "end": format_time(run["end"]),
        "took": format_seconds(run["seconds"]),
        "epochs": run["epochs"],
        "found": found_names(run),
        "best": f"{run['monitor']} {format_text(run['best'])}{epoch}" if run["best"] is not None else None,
        "not tested": run["untested"],
        "checkpoints": ", ".join(run["checkpoints"]),
        "seed": run["seed"],
        "commit": f"{str(run['commit'])[:7]}{changes}" if run["commit"] else None,
        "packages": ", ".join(f"{name} {version}" for name, version in run["packages"].items()),
        "hardware": ", ".join(f"{name} {format_text(value or 'none')}" for name, value in run["hardware"].items()),
    }
    return [(name, str(fact)) for name, fact in known.items() if fact not in (None, "", MISSING)]


def _missing_parts(folder: Path, status: str, checkpoints: Sequence[str], results: Content) -> dict[str, str]:
    """What the folder lacks: what that means, and what to type."""
    name = run_dir.display_name(folder, paths.LOGS)
    evaluate = f"evaluate run={name}"
    go_on = f"train {'resume' if 'last' in checkpoints and status not in FINISHED else 'rerun'}={name}"
    ways = [go_on] if status != "done" or "best" not in checkpoints else []
    ways += [f"{evaluate} for what it has learned"] if "best" in checkpoints else []
    means = {
        "record.json": "when, how and on what it ran is not known: it ended before it began",
        "metrics.csv": "it finished no epoch",
        "preprocess.json": f"evaluate, predict and export-model need it: type train rerun={name}",
        "checkpoints/best.ckpt": f"there is nothing to evaluate, predict with or export: type {go_on}",
        "checkpoints/last.ckpt": f"training cannot be resumed: type train rerun={name} to start again",
        "results.json": f"not evaluated, and its status is {status}: type {', or '.join(ways)}",
    }
    if status == "running":
        means = dict.fromkeys(means, "not yet: it is running")
    if not _keeps_preprocessing(folder):
        del means["preprocess.json"]
    missing = {file: meaning for file, meaning in means.items() if not (folder / file).is_file()}
    if results and not _has_tested(results) and not _untested_message(folder, status, results):
        missing["results.json"] = f"no metrics of train, val and test, as with test=false; type {evaluate}"
    return missing


def _keeps_preprocessing(folder: Path) -> bool:
    """Whether the data are those of conf/data/_base.yaml; a LightningDataModule of another kind keeps none."""
    try:
        return "split_seed" in (saved_config.load_saved_config(folder).get("data") or {})
    except DAMAGE:
        return True


def _has_tested(results: Content) -> bool:
    return bool(run_results.metrics_of(results))


def _untested_message(folder: Path, status: str, results: Content) -> str | None:
    """Of a trial that was left untested on purpose: that it was, and what to type."""
    if not results or _has_tested(results) or not (status == "pruned" or _search_settings(folder)):
        return None
    told = "pruned trials and trials of a search are not"
    if (folder / "evaluate" / "results.json").is_file():
        return f"{told}; evaluate/results.json holds what evaluate found"
    return f"{told}; type evaluate run={run_dir.display_name(folder, paths.LOGS)}"


def _search_settings(folder: Path) -> bool:
    """Whether a run is a trial of a search."""
    kept = folder.parent / "multirun.yaml"
    config: Any = OmegaConf.to_container(saved_config.load_yaml(kept), resolve=False) if kept.is_file() else {}
    return "OptunaSweeper" in str(config.get("hydra", {}).get("sweeper", {}).get("_target_"))


# ---- values, read and shown


def _read_content(path: Path) -> Content:
    """What a JSON file holds, by name; nothing where there is no such file."""
    if not path.is_file():
        return {}
    return files.read_dict(path)


def choices_of(folder: Path) -> dict[str, str]:
    """What was chosen for each group; where Hydra has not kept it, the modules of data and model."""
    kept = folder / ".hydra" / "hydra.yaml"
    if kept.is_file():
        hydra: Any = OmegaConf.to_container(saved_config.load_yaml(kept), resolve=False)
        chosen = {str(group): str(choice) for group, choice in hydra["hydra"]["runtime"]["choices"].items()}
        return {group: choice for group, choice in chosen.items() if not re.match("hydra|local@", group)}
    cfg: Any = OmegaConf.to_container(saved_config.load_saved_config(folder), resolve=False)
    return {group: str(cfg[group]["_target_"]).split(".")[-2] for group in ("data", "model")}


def _to_number(value: Any) -> int | float | None:
    if not isinstance(value, int | float | None):
        raise TypeError(f"{value!r} is no number")
    return value


def _duration(note: Content, status: str) -> float | None:
    """From start to end, or until now; of a run that was killed, or has paused, that is not known."""
    end = record.now() if status == "running" else note.get("end")
    if not end or note.get("resumed"):
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(note["start"])).total_seconds()


def _diff_digest(diff: str | None) -> str | None:
    """Tells one set of uncommitted changes from another."""
    return f"{len(diff.splitlines())} lines of diff, {zlib.crc32(diff.encode()):08x}" if diff else None


def _name_of(folder: Path) -> str:
    """A run's name under `logs`/train, as `run=` takes it: <run>, or <multirun>/<job>."""
    return f"{folder.parent.name}/{folder.name}" if (folder.parent / "multirun.yaml").is_file() else folder.name
