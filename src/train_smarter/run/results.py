"""What a finished run leaves: its findings, its objective, its best epoch."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from train_smarter.errors import UserError
from train_smarter.run.files import read_csv, read_dict

OPTIONAL = ("weights", "pruned")  # in results.json only where a run has them


@dataclass
class Results:
    """What a run ends with; `train` returns it and results.json holds it.

    Attributes:
        monitor: the metric that decides which checkpoint is best.
        best_value: its value of the best checkpoint, not of the last epoch; None: it was never measured.
        best_epoch: the epoch of the best checkpoint, counted from 0.
        checkpoint: the file of the best checkpoint; None: none was saved.
        epochs: epochs trained.
        parameters: trainable numbers of the network.
        metrics: clean metrics of the best checkpoint by name (`test/accuracy`); empty with `test=false`.
        details: what the task keeps beside numbers, by kind and split: {"confusion": {"test": [[...], ...]}}.
        seconds: of training, over all starts of the run.
        train_epoch_seconds_median: of the training batches of an epoch, the first one left out.
        train_examples: of the training split; None: the data do not say.
        weights: what the evaluated weights are, where they are not the trained ones; None: those of one step.
        pruned: the validation at which a search stopped this trial; None: it was not pruned.
    """

    monitor: str
    best_value: float | None
    best_epoch: int | None
    checkpoint: str | None
    epochs: int
    parameters: int
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float | None = None
    train_epoch_seconds_median: float | None = None
    train_examples: int | None = None
    weights: str | None = None
    pruned: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of results.json: flat, without what the run does not have."""
        optional = {name: vars(self)[name] for name in OPTIONAL if vars(self)[name] is not None}
        others = ("metrics", "details", *OPTIONAL)
        content = {name: value for name, value in vars(self).items() if name not in others} | optional
        # A LightningModule may log `epochs`, too: the value of the run stays.
        content |= {name: value for name, value in (self.metrics | self.details).items() if name not in content}
        return content

    def objective(self, folder: Path, cfg: DictConfig) -> float | tuple[float, ...] | None:
        """The number that a search looks at, or one per name of `cfg.optimized_metric`.

        A name is a value of results.json, or a column of metrics.csv, from the row of the best epoch. None if the
        monitored metric was never measured.

        Raises:
            UserError: the run has no such value.
        """
        return _objective(self.to_json(), folder, cfg)


def metrics_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics in the content of a results.json, by the names under which they were logged."""
    others = {one.name for one in fields(Results)} | {"pruned"}
    return {
        name: value
        for name, value in content.items()
        if name not in others and ("/" in name or isinstance(value, int | float))
    }


def read_findings(folder: Path) -> list[dict[str, Any]]:
    """What the diagnosis of a run found, the worst first; empty where there was none."""
    found = _read_diagnosis(folder).get("findings")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def problem_names(folder: Path) -> list[str]:
    """The names of what was found, notes left out."""
    return [str(one.get("name")) for one in read_findings(folder) if one.get("severity") != "note"]


def val_examples(folder: Path) -> int | None:
    """How many examples a run was validated on, where its diagnosis says so."""
    measured = _read_diagnosis(folder).get("measured")
    count = measured.get("val_examples") if isinstance(measured, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def _read_diagnosis(folder: Path) -> dict[str, Any]:
    """diagnosis.json; empty where it is missing or damaged."""
    try:
        content = json.loads((folder / "diagnosis.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_objective(folder: Path, cfg: DictConfig) -> float | tuple[float, ...] | None:
    """`Results.objective` of a run that has ended, from its folder."""
    return _objective(read_results(folder), folder, cfg)


def _objective(results: Mapping[str, Any], folder: Path, cfg: DictConfig) -> float | tuple[float, ...] | None:
    if results.get("best_value") is None:
        return None
    # By the checkpoint's epoch: the row of an epoch with several validations may lack the best value.
    rows = {row.get("epoch"): row for row in read_csv(folder / "metrics.csv")}
    row = rows.get(str(results.get("best_epoch")))
    row = row or best_row(folder / "metrics.csv", cfg.monitor, cfg.get("mode")) or {}
    known = row | dict(results) | {cfg.monitor: results["best_value"]}
    wanted = cfg.get("optimized_metric", cfg.monitor)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    missing = [name for name in names if known.get(name) in (None, "")]
    if missing:
        raise UserError(f"optimized_metric={missing[0]}: the run has no such value")
    values = tuple(float(known[name]) for name in names)
    return values[0] if isinstance(wanted, str) else values


def last_of_epochs(folder: Path, monitor: str) -> tuple[float | None, int | None]:
    """The value of the monitored metric in the last epoch of metrics.csv, and that epoch."""
    row = next(iter(read_csv(folder / "metrics.csv")[-1:]), {})
    return (float(row[monitor]), int(row["epoch"])) if row.get(monitor) else (None, None)


def epochs_done(folder: Path) -> int:
    """The epochs in a run's metrics.csv; none where it is damaged."""
    try:
        return len(read_csv(folder / "metrics.csv"))
    except UserError:
        return 0


def read_results(folder: Path) -> dict[str, Any]:
    """The content of a run's results.json.

    Raises:
        UserError: there is none, or it is damaged.
    """
    numbers = dict.fromkeys(("best_value", "best_epoch", "epochs", "seconds", "pruned"), (int, float))
    return read_dict(folder / "results.json", {"monitor": str, "checkpoint": str, **numbers})


def ranking_key(value: float | None, mode: str | None) -> float:
    """The key that sorts the best value first, and NaN and no value last."""
    if value is None or math.isnan(value):
        return math.inf
    return float(value if mode == "min" else -value)


def best_row(path: Path, monitor: str | None, mode: str | None) -> dict[str, str] | None:
    """The row of a run's metrics.csv with the best value of the monitored metric; the earliest of equal ones."""
    found = [row for row in read_csv(path) if row.get(monitor or "")]
    return min(found, key=lambda row: ranking_key(float(row[str(monitor)]), mode), default=None)


def best_of_epochs(folder: Path, monitor: str | None, mode: str | None) -> dict[str, Any]:
    """`best_value` and `best_epoch` by metrics.csv: of a run that has no results.json yet, or never gets one."""
    row = best_row(folder / "metrics.csv", monitor, mode)
    return {"best_value": row and float(row[str(monitor)]), "best_epoch": row and int(row["epoch"])}
