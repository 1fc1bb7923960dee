"""Names of the metrics that a run logs, and their direction: the task's, as its config declares them."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

SPLITS = ("train", "val")
# Values of results.json that a search may optimize, too.
RUN_VALUES = ("seconds", "train_epoch_seconds_median", "epochs", "parameters")


def task_metrics(cfg: Any) -> dict[str, str]:
    """{name: max | min} of a config, the loss first; the loss alone where the config declares none."""
    declared = cfg
    for key in ("task", "metrics"):
        declared = declared.get(key) if isinstance(declared, Mapping | DictConfig) else None
    if not isinstance(declared, Mapping | DictConfig):
        return {"loss": "min"}
    return {"loss": "min"} | {str(name): mode for name, mode in declared.items() if mode in ("min", "max")}


def headline(metrics: Mapping[str, str]) -> str:
    """The metric that tables and tiles show first: the first that is not the loss."""
    return next((name for name in metrics if name != "loss"), "loss")


def monitor_names(metrics: Mapping[str, str]) -> list[str]:
    return [f"{split}/{name}" for split in SPLITS for name in metrics]


def mode_of(name: str, metrics: Mapping[str, str]) -> str:
    """Whether more or less of a metric is better; `val/rmse` or `rmse`."""
    last = name.rpartition("/")[2]
    return metrics.get(last, "min" if last.endswith(("loss", "error")) else "max")
