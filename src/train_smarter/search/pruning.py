"""Is the trial of a search worth going on with? Part of every trial."""

import functools
import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import execution_whitelist, instantiate
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from train_smarter.callbacks.monitor_timing import is_training_metric
from train_smarter.fit.module import Model
from train_smarter.run.trial import TrialRef
from train_smarter.search.storage import load_trial

if TYPE_CHECKING:
    from optuna import Trial


log = logging.getLogger(__name__)


class Pruning(Callback):
    """Reports each validation to the study, and stops the run where the study's pruner says so.

    A training metric is reported when its epoch is over: in a validation, it is that of the epoch before.

    Args:
        trial_ref: which trial the run is.
        monitor: the metric that is reported.

    Attributes:
        pruned: the validation, counted from 1, after which the run was stopped; None: it was not.
    """

    def __init__(self, trial_ref: TrialRef, *, monitor: str) -> None:
        self.trial_ref, self.monitor = trial_ref, monitor
        self.validations = 0
        self.pruned: int | None = None

    @functools.cached_property
    def trial(self) -> "Trial":
        trusted = execution_whitelist(("optuna.pruners.*",), reset=True)
        pruner = instantiate(HydraConfig.get().sweeper.pruner, _execution_whitelist_=trusted)
        return load_trial(self.trial_ref, pruner)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        raise_on_nan(trainer, self.validations + 1)
        if not is_training_metric(trainer, self.monitor):
            self._report(trainer, trainer.callback_metrics.get(self.monitor))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_training_metric(trainer, self.monitor):
            return
        if isinstance(pl_module, Model):  # it logs them after this hook
            self._report(trainer, pl_module.epoch_metrics["train"].scores()[self.monitor.removeprefix("train/")])
        else:
            self._report(trainer, trainer.callback_metrics.get(self.monitor))

    def _report(self, trainer: Trainer, value: float | Tensor | None) -> None:
        from optuna.exceptions import UpdateFinishedTrialError

        self.validations += 1
        hopeless = trainer.is_global_zero and value is not None and self._should_prune(float(value))
        if trainer.world_size > 1:
            hopeless = trainer.strategy.broadcast(hopeless)
        last = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        if hopeless and not last:
            self.pruned = self.validations
            trainer.should_stop = True
            if trainer.is_global_zero:
                with suppress(UpdateFinishedTrialError):
                    self.trial.set_user_attr("pruned", self.validations)

    def _should_prune(self, value: float) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError

        if len(self.trial.study.directions) > 1:  # Optuna prunes by one objective
            return False
        try:
            self.trial.report(value, self.validations)
        except UpdateFinishedTrialError:  # by another process, which took this one for dead
            log.warning("trial %d was closed meanwhile", self.trial_ref.number)
            return True
        return self.trial.should_prune()


def raise_on_nan(trainer: Trainer, validation: int) -> None:
    """Fails a trial whose loss has left the numbers: its accuracy may still be one, that of guessing."""
    for name in ("train/loss", "val/loss"):
        value = trainer.callback_metrics.get(name)
        if value is not None and not math.isfinite(float(value)):
            raise FloatingPointError(f"{name} is {float(value)} at validation {validation}")
