"""What a finished run leaves: its findings, its objective, its best epoch."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from train_smarter.errors import UserError
from train_smarter.run.files import read_csv, read_json


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
    """What a search looks at, from the folder of a run that has ended: a number, or one for each of several names.

    None where the monitored metric was never measured.

    `cfg.optimized_metric` names values of results.json, where that of the monitored metric is `best_value`; or of
    metrics.csv, of which the row of the best epoch is taken.
    """
    results = read_json(folder / "results.json")
    if results["best_value"] is None:
        return None
    row = best_row(folder / "metrics.csv", cfg.monitor, cfg.get("mode")) or {}
    known = row | results | {cfg.monitor: results["best_value"]}
    wanted = cfg.get("optimized_metric", cfg.monitor)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    missing = [name for name in names if known.get(name) in (None, "")]
    if missing:
        raise UserError(f"optimized_metric={missing[0]}: the run has no such value")
    values = tuple(float(known[name]) for name in names)
    return values[0] if isinstance(wanted, str) else values


def best_row(path: Path, monitor: str | None, mode: str | None) -> dict[str, str] | None:
    """The row of a run's metrics.csv with the best value of the monitored metric; the earliest of equal ones."""
    found = [row for row in read_csv(path) if row.get(monitor or "")]
    choose = min if mode == "min" else max
    return choose(found, key=lambda row: float(row[str(monitor)]), default=None)
