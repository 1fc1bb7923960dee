"""Is the monitored metric logged at all?"""

import re
from collections.abc import Iterable

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from train_smarter.errors import UserError, did_you_mean

VALIDATION = re.compile(r"(^|[\W_])val(id(ation)?)?([\W_]|$)")  # in val_loss and loss/valid, not in value_loss


class MonitorCheck(Callback):
    """Ends a run whose monitored metric is missing, as early as it is certain; part of every run without a task.

    Another spelling of the name is found in Lightning's sanity check, before the first step. A model may log less there
    than later, so a metric of validation is missing after the first real one, any other when an epoch has ended.

    Args:
        monitor: the name of the metric.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self._epochs = 0  # started in this process

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        misspelled = _letters(self.monitor) in map(_letters, trainer.callback_metrics)
        if misspelled if trainer.sanity_checking else VALIDATION.search(self.monitor):
            self._check(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._epochs:
            self._check(trainer, pl_module)
        self._epochs += 1

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor not in trainer.callback_metrics:
            raise UserError(_missing(self.monitor, type(pl_module).__name__, trainer.callback_metrics))


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _missing(monitor: str, model: str, logged: Iterable[str]) -> str:
    names = [name for name in map(str, logged) if not name.startswith("lr-")]
    if not names:
        return f"monitor={monitor}: {model} logs no metric: call self.log({monitor!r}, ...) in one of its steps"
    return f"monitor={monitor}: {model} logs {', '.join(names)}; type monitor=NAME{did_you_mean(monitor, names)}"
