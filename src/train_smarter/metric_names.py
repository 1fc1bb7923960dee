"""Names of the metrics that a run logs, and their direction: the task's, as its config declares them."""

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

SPLITS = ("train", "val")
# Values of results.json that a search may optimize, too.
RUN_VALUES = ("seconds", "train_epoch_seconds_median", "epochs", "parameters")
# Words in the names of metrics that no task declares: of a LightningModule without a task.
LESS_IS_BETTER = ("loss", "error", "err", "mse", "rmse", "mae", "nll", "perplexity", "ppl", "wer", "cer", "fid")
MORE_IS_BETTER = ("accuracy", "acc", "precision", "recall", "f1", "auc", "auroc", "r2", "iou", "dice", "psnr", "ssim")


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
    return metrics.get(last) or guess_mode(last) or "max"


def epoch_values(logged: Mapping[str, Any]) -> dict[str, Any]:
    """What Lightning holds of an epoch, without the names that it adds for a metric that is logged per step, too."""
    added = {f"{name}_{kind}" for name in logged for kind in ("step", "epoch")}
    return {name: value for name, value in logged.items() if name not in added and not name.startswith("lr-")}


def guess_mode(name: str) -> str | None:
    """The direction of a metric that no task declares, by the words of its name; None: unknown."""
    for word in reversed(re.split("[^a-z0-9]+", name.lower())):
        if word in LESS_IS_BETTER or word.endswith(("loss", "error")):
            return "min"
        if word in MORE_IS_BETTER:
            return "max"
    return None
