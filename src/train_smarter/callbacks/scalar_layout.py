"""Do train, validation and test agree? Their curves in one chart, and the run's choices beside its result."""

import re
from collections.abc import Mapping, Sequence

from lightning import Callback, LightningModule, Trainer

from train_smarter.run import tensorboard
from train_smarter.task.base import Task

SPLITS = ("train", "val", "test")


class ScalarLayout(Callback):
    """Lays out TensorBoard's Custom Scalars page: a chart for each metric of the task, with the curves of all splits.

    Args:
        curves: more charts, title -> names of the metrics in it; None leaves a chart out.
    """

    def __init__(self, *, curves: Mapping[str, Sequence[str] | None] | None = None) -> None:
        self.curves = {str(title): None if names is None else list(names) for title, names in (curves or {}).items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        charts = self._charts(pl_module)
        for writer in tensorboard.tensorboard_writers(trainer):
            writer.add_custom_scalars({"splits": {title: self._layout(names) for title, names in charts.items()}})

    def _charts(self, module: LightningModule) -> dict[str, list[str]]:
        task = getattr(module, "task", None)
        names = ["loss", *(task.metrics if isinstance(task, Task) else ())]
        charts: dict[str, list[str] | None] = {name: [f"{split}/{name}" for split in SPLITS] for name in names}
        if not isinstance(task, Task):  # a module of one's own, as Lightning's documentation names what it logs
            charts["loss"] = [f"{split}{mark}loss" for mark in "/_" for split in SPLITS]
        return {title: names for title, names in {**charts, **self.curves}.items() if names is not None}

    @staticmethod
    def _layout(names: Sequence[str]) -> list[object]:
        # TensorBoard reads a name as a pattern and needs no end: train/loss would bring train/loss_step along.
        return ["Multiline", [f"{re.escape(name)}$" for name in names]]
