"""`report`: what past runs were and how they ended, as their folders tell it; of one run or multirun a page, too.

A folder may be half written, damaged, or a stranger's: a list says so in its row, and no interpolation is resolved.
Imports nothing heavy until there is a page to draw, and torch never.
"""

import json
import math
import os
import re
import shlex
import statistics
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from train_smarter import past, record
from train_smarter.command import command
from train_smarter.error import UserError, nearest
from train_smarter.paths import LOGS
from train_smarter.sanitize import printable
from train_smarter.screen import SHOWN, list_table, results_table, show, took
from train_smarter.trust import check_folder

Content = dict[str, Any]  # as in a JSON file; what `format=json` prints
View = tuple[Any, list[Any]]  # that, and what the terminal shows instead

SPLITS = ("train", "val", "test")
PAIR = ("run", "against")
NONE = "-"  # in a table: there is no such value
KEYS = (*PAIR, "last", "output", "format")
FORMATS = ("table", "json")
MEANS = ("jobs", "best", "min", "max", "test/accuracy", "overrides")  # columns of the means
FINISHED = ("done", "pruned")  # what becomes of a run that has gone as far as it was to go
COLUMNS = ("time", "data", "model", "status", "best", "test/accuracy", "took", "name")
DAMAGE = (UserError, OmegaConfBaseException, OSError, ValueError, TypeError, LookupError, AttributeError)
# Where runs lie, and words that named one: they differ by nature.
UNCOMPARED = ("paths.run", "paths.logs", "resume", "rerun", "run")


def main() -> None:
    """The console script."""
    command("report", act, words)


def words(argv: Sequence[str]) -> list[str]:
    """The command line as Hydra is to see it: `run=` and `against=` are taken literally, whatever they hold."""
    if {"-m", "--multirun"} & set(argv):
        raise UserError("report has nothing to sweep: type it without -m")
    for key in PAIR:
        given = [word for word in argv if word.startswith(f"{key}=")]
        if len(given) > 1:
            raise UserError(f"{' '.join(given)}: two runs are compared by report run=<one> against=<other>")
        if given == [f"{key}="]:
            raise UserError(f"{key}= names no run: give `last`, a folder, or its name")
    if not any(word.startswith("-") for word in argv):
        _refuse_what_it_does_not_take(argv)
    return past.literally(argv, (*PAIR, "output"))


def _refuse_what_it_does_not_take(argv: Sequence[str]) -> None:
    for word in argv:
        key, mark, _ = word.lstrip("+").partition("=")
        if not mark or not (key in KEYS or re.match(r"(paths|hydra)\b", key)):
            hint = nearest(key, KEYS) if mark else f"; is it a run? Type report run={shlex.quote(word)}"
            raise UserError(f"{word}: report takes {'=, '.join(KEYS)}= and paths.logs={hint}")


def act(cfg: DictConfig) -> None:
    """Shows the newest runs, or the one that `run=` names, or what differs between it and the one of `against=`.

    Of one run or multirun it writes the page, unless a program is to read.
    """
    _check(cfg)
    logs, folder = Path(cfg.paths.logs), None
    if cfg.run is None:
        content, things = listing(logs, last=cfg.last)
    elif cfg.against is not None:
        folders = [past.find_run(str(cfg[key]), logs, key=key) for key in ("run", "against")]
        content, things = comparison(*folders)
    else:
        folder = past.find(str(cfg.run), logs)
        content, things = one(folder) if past.is_run(folder) else multirun(folder)
    if cfg.format == "json":
        show(json.dumps(content, indent=2))
        return
    show(*things)
    if folder is not None:
        check_folder(folder)
        show(f"\npage: {_written(folder, cfg.output)}")


def _written(folder: Path, output: Any) -> Path:
    from train_smarter import page  # heavy

    if output is None:
        return page.write(folder)
    target = Path(os.path.abspath(os.path.expanduser(str(output))))  # noqa: PTH100, PTH111 (a link stays one; ~nobody, too)
    return page.write(folder, target / "report.html" if target.is_dir() else target)


def _check(cfg: DictConfig) -> None:
    if cfg.format not in FORMATS:
        raise UserError(f"format={cfg.format}: give {' or '.join(FORMATS)}{nearest(str(cfg.format), FORMATS)}")
    if not isinstance(cfg.last, int) or isinstance(cfg.last, bool) or cfg.last < 1:
        raise UserError(f"last={_value(cfg.last)}: give a whole number of at least 1, or run=last for the newest run")
    if cfg.against is not None and cfg.run is None:
        raise UserError(f"against={cfg.against} needs a run to compare: add run=last, or run=<folder>")
    if cfg.output is not None and (cfg.run is None or cfg.against is not None or cfg.format == "json"):
        raise UserError(f"output={cfg.output}: a page is written of one run or multirun: report run=last output=<file>")


# ---- a list of runs


def listing(logs: Path, *, last: int) -> View:
    """The newest runs, the jobs of multiruns among them, newest first."""
    home = logs / "train"
    runs = [folder for folder in home.glob("runs/*") if past.is_run(folder)]
    runs += [job for folder in home.glob("multiruns/*") for job in past.jobs(folder)]
    if not runs:
        raise UserError(f"there is no run under {home} yet: type train first, or give paths.logs=<folder>")
    rows = [summary(folder) for folder in sorted(runs, key=_age, reverse=True)[:last]]
    more = [f"\n{last} of {len(runs)} runs; for all of them type report last={len(runs)}"] if last < len(runs) else []
    return rows, [list_table(map(_row, rows), *COLUMNS), *_damages(rows), *more]


def multirun(folder: Path) -> View:
    """The jobs of a multirun, the best one first, each with the overrides that not all of them have; their means."""
    rows = [summary(job) for job in past.jobs(folder)]
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


def summary(folder: Path) -> Content:
    """A run in a few words; of a damaged folder its name, and what is wrong with it."""
    try:
        return _summary(folder, *(_content(folder / name) for name in ("record.json", "results.json")))
    except DAMAGE as error:
        why = str(error) if isinstance(error, UserError) else f"{folder}: {error!r}"
        return {"name": _name(folder), "folder": str(folder), "status": "damaged", "damage": why}


def _summary(folder: Path, note: Content, results: Content) -> Content:
    status, chosen = record.status(folder), _choices(folder)
    monitor, best = results.get("monitor", note.get("monitor")), results.get("best", note.get("best"))
    if best is None and (row := record.best_row(folder / "metrics.csv", monitor, note.get("mode"))):
        best = float(row[str(monitor)])
    return {
        "name": _name(folder),
        "folder": str(folder),
        "start": note.get("start"),
        "data": chosen.get("data"),
        "model": chosen.get("model"),
        "status": status,
        "error": _reason(note, status),
        "seed": note.get("seed"),
        "monitor": monitor,
        "mode": note.get("mode"),
        "best": _number(best),
        "test/accuracy": _number(results.get("test/accuracy")),
        "seconds": _number(results.get("seconds", _seconds(note, status))),
        "found": record.troubles(folder),
        "val_examples": record.val_examples(folder),
        "overrides": [str(word) for word in note.get("overrides") or []],
    }


def _row(run: Content) -> list[str]:
    best = f"{run['monitor']} {_text(run['best'])}" if run.get("best") is not None else NONE
    known = [_time(run.get("start")), *(_text(run.get(key)) for key in ("data", "model", "status"))]
    return [*known, best, _text(run.get("test/accuracy")), _took(run.get("seconds")), run["name"]]


def _found(run: Content) -> str:
    return " ".join(run.get("found") or []) or NONE


def luck(one: Content, other: Content) -> float | None:
    """The standard error of an accuracy, where two of them lie closer together than that."""
    values = [run.get("best") for run in (one, other)]
    examples = min((run.get("val_examples") or 0 for run in (one, other)), default=0)
    comparable = one.get("monitor") == other.get("monitor") and str(one.get("monitor")).endswith("accuracy")
    if not examples or not comparable or not all(isinstance(value, float) and 0 <= value <= 1 for value in values):
        return None
    error = math.sqrt(values[0] * (1 - values[0]) / examples)  # type: ignore[operator]
    return error if abs(values[0] - values[1]) < error else None  # type: ignore[operator]


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


def _reason(note: Content, status: str) -> str | None:
    """The first line of what a run failed with."""
    error = str(note.get("error") or "").strip()
    return error.splitlines()[0] if status == "failed" and error else None


def _job(run: Content) -> str:
    return Path(run["folder"]).name


def _rank(run: Content) -> float:
    """Sorts the best first, and those without a value last."""
    best = run.get("best")
    if best is None or math.isnan(best):
        return math.inf
    return float(best if run.get("mode") == "min" else -best)


def _age(folder: Path) -> tuple[str, str]:
    try:
        begun = str(_content(folder / "record.json")["start"])
    except DAMAGE:
        begun = datetime.fromtimestamp(folder.stat().st_ctime, UTC).isoformat(timespec="seconds")
    return begun, folder.name.zfill(9)  # the jobs of a second by their numbers


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


# ---- one run


def one(folder: Path) -> View:
    """What a run was, how it ended, and what its folder lacks."""
    run = detail(folder)
    splits = [split for split in SPLITS if None not in (run["results"].get(f"{split}/{name}") for name in SHOWN)]
    table = [results_table(run["results"], splits)] if splits else []
    missing = [("missing:", ""), *run["missing"].items()] if run["missing"] else []
    return run, [list_table(facts(run)), *table, *([list_table(missing)] if missing else [])]


def detail(folder: Path) -> Content:
    """All that is known of a run.

    Raises:
        UserError: one of its files is damaged; a file that is not there is named under "missing".
    """
    try:
        note, results = (_content(folder / name) for name in ("record.json", "results.json"))
        run = _summary(folder, note, results)
        checkpoints = sorted(path.stem for path in (folder / "checkpoints").glob("*.ckpt"))
        return run | {
            "command": note.get("command"),
            "end": note.get("end"),
            "resumed": len(note.get("resumed") or []),
            "commit": note.get("commit"),
            "uncommitted": _digest(note.get("diff")),
            "packages": dict(note.get("packages") or {}),
            "hardware": dict(note.get("hardware") or {}),
            "host": note.get("host"),
            "best_epoch": _number(results.get("best_epoch", note.get("best_epoch"))),
            "epochs": _number(results.get("epochs")),
            "seconds_per_epoch": _number(results.get("seconds_per_epoch")),
            "results": {name: _number(value) for name, value in results.items() if "/" in name},
            "checkpoints": checkpoints,
            "untested": _untested(folder, run["status"], results),
            "missing": _missing(folder, run["status"], checkpoints, results),
        }
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{folder} is damaged: {error!r}") from error


def facts(run: Content) -> list[tuple[str, str]]:
    """A run's facts, each with its name; those that are not known are left out."""
    epoch = f" in epoch {run['best_epoch']}, counted from 0" if run["best_epoch"] is not None else ""
    changes = f", with uncommitted changes: {run['uncommitted']}" if run["uncommitted"] else ""
    again = f", resumed {run['resumed']} x" if run["resumed"] else ""
    why = f": {run['error']}" if run["error"] else ""
    known = {
        "run": run["name"],
        "folder": run["folder"],
        "command": run["command"],
        "data, model": f"{_text(run['data'])}, {_text(run['model'])}",
        "status": run["status"] + again + why,
        "start": _time(run["start"]),
        "end": _time(run["end"]),
        "took": _took(run["seconds"]),
        "epochs": run["epochs"],
        "found": _found(run),
        "best": f"{run['monitor']} {_text(run['best'])}{epoch}" if run["best"] is not None else None,
        "not tested": run["untested"],
        "checkpoints": ", ".join(run["checkpoints"]),
        "seed": run["seed"],
        "commit": f"{str(run['commit'])[:7]}{changes}" if run["commit"] else None,
        "packages": ", ".join(f"{name} {version}" for name, version in run["packages"].items()),
        "hardware": ", ".join(f"{name} {_text(value or 'none')}" for name, value in run["hardware"].items()),
    }
    return [(name, str(fact)) for name, fact in known.items() if fact not in (None, "", NONE)]


def _missing(folder: Path, status: str, checkpoints: Sequence[str], results: Content) -> dict[str, str]:
    """What the folder lacks: what that means, and what to type."""
    name = past.named(folder, LOGS)
    evaluate = f"evaluate run={name}"
    go_on = f"train {'resume' if 'last' in checkpoints and status not in FINISHED else 'rerun'}={name}"
    ways = [go_on] if status != "done" or "best" not in checkpoints else []
    ways += [f"{evaluate} for what it has learned"] if "best" in checkpoints else []
    means = {
        "record.json": "when, how and on what it ran is not known: it ended before it began",
        "metrics.csv": "it finished no epoch",
        "preprocess.json": f"evaluate, predict and export-model need it: type train rerun={name}",
        "checkpoints/best.ckpt": f"there is nothing to evaluate, predict with or export: type {go_on}",
        "checkpoints/last.ckpt": f"training cannot go on from where it was: type train rerun={name} to begin again",
        "results.json": f"not evaluated, and its status is {status}: type {', or '.join(ways)}",
    }
    if status == "running":
        means = dict.fromkeys(means, "not yet: it is running")
    missing = {file: meaning for file, meaning in means.items() if not (folder / file).is_file()}
    if results and not _tested(results) and not _untested(folder, status, results):
        missing["results.json"] = f"no metrics of train, val and test, as with test=false; type {evaluate}"
    return missing


def _tested(results: Content) -> bool:
    return any("/" in key for key in results)


def _untested(folder: Path, status: str, results: Content) -> str | None:
    """Of a trial that was left untested on purpose: that it was, and what to type."""
    if not results or _tested(results) or not (status == "pruned" or _searched(folder)):
        return None
    told = "pruned trials and trials of a search are not"
    if (folder / "evaluate" / "results.json").is_file():
        return f"{told}; evaluate/results.json holds what evaluate found"
    return f"{told}; type evaluate run={past.named(folder, LOGS)}"


def _searched(folder: Path) -> bool:
    """Whether a run is a trial of a search."""
    kept = folder.parent / "multirun.yaml"
    config: Any = OmegaConf.to_container(past.loaded(kept), resolve=False) if kept.is_file() else {}
    return "OptunaSweeper" in str(config.get("hydra", {}).get("sweeper", {}).get("_target_"))


# ---- two runs


def comparison(folder: Path, other: Path) -> View:
    """What differs between two runs: config, software and hardware, metrics."""
    if folder == other:
        raise UserError(f"run= and against= are both {folder}: give two runs")
    runs = detail(folder), detail(other)
    differing = {
        "config": _changed(*(_config(at, run["seed"]) for at, run in zip((folder, other), runs, strict=True))),
        "environment": _differences(*map(_environment, runs)),
        "metrics": _differences(*map(_metrics, runs)),
    }
    for pair in differing["metrics"].values():
        if len(pair) == 2:
            pair["difference"] = pair["run"] - pair["against"]
    sides = dict(zip(PAIR, runs, strict=True))
    lacking = [
        printable(f"{side}: {file}: {run['missing'][file]}")
        for side, run in sides.items()
        for file in ("record.json", "results.json")
        if file in run["missing"]
    ]
    head = list_table([[side, *_row(run)] for side, run in sides.items()], "", *COLUMNS)
    if error := luck(*runs):
        lacking.append(f"the two differ by less than the standard error of their accuracy, {error:.4f}: it may be luck")
    tables = [_side_by_side(title, pairs) for title, pairs in differing.items()]
    return {**sides, **differing}, ["\n\n".join([head, *lacking, *tables])]


def _differences(run: Content, against: Content) -> dict[str, Content]:
    """The keys whose values differ, with both of them; one that a run has not is left out of its side."""
    sides = dict(zip(PAIR, (run, against), strict=True))
    return {
        key: {side: values[key] for side, values in sides.items() if key in values}
        for key in dict.fromkeys([*run, *against])
        if key not in run or key not in against or run[key] != against[key]
    }


def _config(folder: Path, seed: Any) -> tuple[Content, Content]:
    """A run's config, flat: as it was written, and with the values that its interpolations had then."""
    written = past.flat(OmegaConf.to_container(past.recorded(folder), resolve=False)) | {"seed": seed}
    kept = folder / "config.yaml"
    filled = past.flat(OmegaConf.to_container(past.loaded(kept), resolve=False)) if kept.is_file() else {}
    values = {key: filled.get(key, value) if "${" in str(value) else value for key, value in written.items()}
    chosen = _choices(folder)
    return written | chosen, values | chosen  # over the null of an empty group


def _changed(run: tuple[Content, Content], against: tuple[Content, Content]) -> dict[str, Content]:
    """What was written differently and has another value; what only follows from another key is left out."""
    written = _differences(run[0], against[0])
    values = _differences(run[1], against[1])
    return {key: pair for key, pair in sorted(values.items()) if key in written and key not in UNCOMPARED}


def _environment(run: Content) -> Content:
    facts = {name: run[name] for name in ("commit", "uncommitted", "host") if run[name]}
    return {**facts, **run["packages"], **run["hardware"]}


def _metrics(run: Content) -> Content:
    names = ("best_epoch", "epochs", "seconds", "seconds_per_epoch")
    known = {f"best {run['monitor']}": run["best"], **{name: run[name] for name in names}, **run["results"]}
    return {name: value for name, value in known.items() if value is not None}


def _side_by_side(title: str, differing: Mapping[str, Content]) -> str:
    if not differing:
        return f"{title}: no difference"
    if title != "metrics":
        rows = [
            [key, *(_value(pair[side]) if side in pair else NONE for side in PAIR)] for key, pair in differing.items()
        ]
        return list_table(rows, title, *PAIR)
    rows = [[key, *(_text(pair.get(side)) for side in PAIR), _change(pair)] for key, pair in differing.items()]
    return list_table(rows, title, *PAIR, "difference")


def _change(pair: Content) -> str:
    by = pair.get("difference")
    return f"+{_text(by)}" if by is not None and by > 0 else _text(by)


# ---- values, read and shown


def _content(path: Path) -> Content:
    """What a JSON file holds, by name; nothing where there is no such file."""
    if not path.is_file():
        return {}
    content = record.read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no names and values")
    return content


def _choices(folder: Path) -> dict[str, str]:
    """What was chosen for each group; where Hydra has not kept it, the modules of data and model."""
    kept = folder / ".hydra" / "hydra.yaml"
    if kept.is_file():
        hydra: Any = OmegaConf.to_container(past.loaded(kept), resolve=False)
        chosen = {str(group): str(choice) for group, choice in hydra["hydra"]["runtime"]["choices"].items()}
        return {group: choice for group, choice in chosen.items() if not re.match("hydra|local@", group)}
    cfg: Any = OmegaConf.to_container(past.recorded(folder), resolve=False)
    return {group: str(cfg[group]["_target_"]).split(".")[-2] for group in ("data", "model")}


def _number(value: Any) -> int | float | None:
    if not isinstance(value, int | float | None):
        raise TypeError(f"{value!r} is no number")
    return value


def _seconds(note: Content, status: str) -> float | None:
    """From start to end, or until now; of a run that was killed, or has paused, that is not known."""
    end = record.now() if status == "running" else note.get("end")
    if not end or note.get("resumed"):
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(note["start"])).total_seconds()


def _digest(diff: str | None) -> str | None:
    """Tells one set of uncommitted changes from another."""
    return f"{len(diff.splitlines())} lines of diff, {zlib.crc32(diff.encode()):08x}" if diff else None


def _text(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _value(value: Any, most: int = 60) -> str:
    """As it is typed; a long one is cut."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _time(moment: str | None) -> str:
    try:
        return datetime.fromisoformat(str(moment)).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return NONE


def _took(seconds: float | None) -> str:
    return NONE if seconds is None else took(seconds)


def _name(folder: Path) -> str:
    """A run's name under `logs`/train, as `run=` takes it: <run>, or <multirun>/<job>."""
    return f"{folder.parent.name}/{folder.name}" if (folder.parent / "multirun.yaml").is_file() else folder.name


if __name__ == "__main__":
    main()
