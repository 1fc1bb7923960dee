"""Names of the metrics that a run logs, and their direction."""

METRICS = [
    f"{split}/{name}" for split in ("train", "val") for name in ("loss", "accuracy", "precision", "recall", "f1")
]
OBJECTIVES = [*METRICS, "seconds", "train_epoch_seconds_median", "epochs", "parameters"]


def mode_of(metric: str) -> str:
    return "min" if metric.endswith("loss") else "max"


TABLE_METRICS = ("loss", "accuracy", "precision", "recall", "f1")
