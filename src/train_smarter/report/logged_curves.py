"""Curves of what a LightningModule has logged under names of its own."""

import re
from collections.abc import Iterable

MAX_CURVES = 24  # charts; a module may log hundreds of values
NOT_DRAWN = ("epoch", "step", "seconds", "train/grad_norm")
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLIT = "|".join(SPLIT_NAMES)
PATTERNS = (rf"(?P<split>{_SPLIT})[/_.-](?P<name>.+)", rf"(?P<name>.+)[/_.-](?P<split>{_SPLIT})")


def group_columns(columns: Iterable[str]) -> dict[str, dict[str, str]]:
    """One chart for train_loss and val_loss: {"loss": {"train": "train_loss", "val": "val_loss"}}.

    A column without a split is a chart of its own, {"gap": {"gap": "gap"}}.
    """
    charts: dict[str, dict[str, str]] = {}
    for column in columns:
        if column in NOT_DRAWN:
            continue
        found = next((match for pattern in PATTERNS if (match := re.fullmatch(pattern, column))), None)
        title, series = (found["name"], SPLIT_NAMES[found["split"]]) if found else (column, column)
        charts.setdefault(title, {})[series] = column
    return dict(list(charts.items())[:MAX_CURVES])
