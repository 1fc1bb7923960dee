"""When is the monitored metric known: after a validation, or when the epoch's training is over?"""

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from train_smarter.fit.module import Model

# Whether such a callback acts at the end of the training epoch; None: Lightning decides.
CHECKPOINT_SETTING, STOPPING_SETTING = "_save_on_train_epoch_end", "_check_on_train_epoch_end"


class MonitorTiming(Callback):
    """Has checkpoints and early stopping read a training metric when its epoch is over; part of every run.

    Lightning reads every metric after a validation where validations and epochs do not coincide: a training metric is
    then that of the epoch before, or missing. A setting that the user has made stays.
    """

    def __init__(self) -> None:
        self._open: list[tuple[ModelCheckpoint | EarlyStopping, str]] = []  # callbacks that Lightning decides for

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        if stage != "fit":
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint | EarlyStopping) and callback.monitor:
                setting = CHECKPOINT_SETTING if isinstance(callback, ModelCheckpoint) else STOPPING_SETTING
                if getattr(callback, setting) is None:  # early stopping decides in its own `setup`, after this one
                    self._open.append((callback, setting))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._decide(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._decide(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._decide(trainer)

    def _decide(self, trainer: Trainer) -> None:
        for callback, setting in self._open:
            if is_training_metric(trainer, str(callback.monitor)):
                setattr(callback, setting, True)
        self._open = [(callback, setting) for callback, setting in self._open if getattr(callback, setting) is not True]


def is_training_metric(trainer: Trainer, name: str) -> bool:
    """Whether a metric is measured in training: of a model without a task, as far as it has been logged."""
    if isinstance(trainer.lightning_module, Model):
        return name.startswith("train/")
    return name in trainer.callback_metrics and name not in validation_names(trainer)


def validation_names(trainer: Trainer) -> set[str]:
    """Names of the metrics that the validations of this process have logged."""
    results = trainer.fit_loop.epoch_loop.val_loop._results
    names = {result.meta.name for result in results.values()}
    return {name for name in trainer.callback_metrics if name.partition("/dataloader_idx_")[0] in names}
