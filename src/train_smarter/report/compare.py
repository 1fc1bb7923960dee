"""Compare two runs: config, environment, metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from train_smarter.errors import UserError
from train_smarter.history import saved_config
from train_smarter.report.formatting import NONE, Content, View, _text, _value
from train_smarter.report.listing import COLUMNS, _row
from train_smarter.report.runs import _choices, detail, luck
from train_smarter.sanitize import printable
from train_smarter.terminal import list_table

PAIR = ("run", "against")
# Where runs lie, and words that named one: they differ by nature.
UNCOMPARED = ("paths.run", "paths.logs", "resume", "rerun", "run")


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
    written = saved_config.flat(OmegaConf.to_container(saved_config.recorded(folder), resolve=False)) | {"seed": seed}
    kept = folder / "config.yaml"
    filled = (
        saved_config.flat(OmegaConf.to_container(saved_config.loaded(kept), resolve=False)) if kept.is_file() else {}
    )
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
