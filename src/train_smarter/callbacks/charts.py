"""Do train, validation and test agree? Their curves in one chart, and the run's choices beside its result."""

import re
from collections.abc import Mapping, Sequence

from lightning import Callback, LightningModule, Trainer

from train_smarter.callbacks import board


class Charts(Callback):
    """Lays out TensorBoard's Custom Scalars page.

    Args:
        curves: a chart's title -> names of the metrics in it; a chart that is None is left out.
    """

    def __init__(self, *, curves: Mapping[str, Sequence[str] | None]) -> None:
        self.curves = {title: list(names) for title, names in curves.items() if names is not None}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        for writer in board.writers(trainer):
            writer.add_custom_scalars({"splits": {title: self._chart(names) for title, names in self.curves.items()}})

    @staticmethod
    def _chart(names: Sequence[str]) -> list[object]:
        # TensorBoard reads a name as a pattern and needs no end: train/loss would bring train/loss_step along.
        return ["Multiline", [f"{re.escape(name)}$" for name in names]]


def log_hparams(trainer: Trainer, *, choices: Mapping[str, object], metrics: Mapping[str, float]) -> None:
    """Fills TensorBoard's HParams page, where runs are compared: one row a run.

    To be called once, when a run is over. Does nothing without a TensorBoard logger, and on other ranks than zero.

    Args:
        trainer: of the finished run.
        choices: flat, e.g. {"model": "cnn", "optimizer.lr": 1e-3}; true, false and null are shown as YAML spells them,
            a list as Python does.
        metrics: of the best checkpoint, e.g. {"test/accuracy": 0.98}, shown as `best/test/accuracy`: a name of its own,
            since the page reads scalars, and no curve should get a point more.
    """
    from torch.utils.tensorboard.summary import hparams

    for writer in board.writers(trainer):
        for name, value in metrics.items():
            writer.add_scalar(f"best/{name}", value, trainer.global_step)
        # The first summary describes the columns. TensorBoard would take that of one run for all runs, and hide what
        # only others have; without any, it finds the columns by itself.
        _, start, end = hparams({name: _shown(value) for name, value in choices.items()}, {})
        file = writer._get_file_writer()
        file.add_summary(start)
        file.add_summary(end)
        writer.close()  # opened anew by this: Lightning closed it when the run ended


def _shown(value: object) -> int | float | str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, int | float | str) else str(value)
