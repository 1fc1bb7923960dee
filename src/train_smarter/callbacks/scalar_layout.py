"""Do train, validation and test agree? Their curves in one chart, and the run's choices beside its result."""

import re
from collections.abc import Mapping, Sequence

from lightning import Callback, LightningModule, Trainer

from train_smarter.run import tensorboard


class ScalarLayout(Callback):
    """Lays out TensorBoard's Custom Scalars page.

    Args:
        curves: a chart's title -> names of the metrics in it; a chart that is None is left out.
    """

    needs_task = True

    def __init__(self, *, curves: Mapping[str, Sequence[str] | None]) -> None:
        self.curves = {title: list(names) for title, names in curves.items() if names is not None}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        for writer in tensorboard.tensorboard_writers(trainer):
            writer.add_custom_scalars({"splits": {title: self._layout(names) for title, names in self.curves.items()}})

    @staticmethod
    def _layout(names: Sequence[str]) -> list[object]:
        # TensorBoard reads a name as a pattern and needs no end: train/loss would bring train/loss_step along.
        return ["Multiline", [f"{re.escape(name)}$" for name in names]]
