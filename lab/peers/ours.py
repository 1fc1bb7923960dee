"""Ours: what `train experiment=...` does, with all that it logs; and `bare`, Lightning that logs nothing."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer, seed_everything

from peers.task import Task, count
from peers.worker import Gate
from train_smarter.callbacks.epoch_logger import EpochLogger
from train_smarter.commands.evaluate import evaluate
from train_smarter.config.build import build
from train_smarter.run import record
from train_smarter.speed import startup


class Turn(Callback):
    """Holds each epoch until it is the contestant's turn, and tells when all of it is done, but for its validation.

    The first of the callbacks: what the others do and log at an epoch's end lies between its hooks.
    """

    def __init__(self, task: Task, gate: Gate) -> None:
        self.task, self.gate = task, gate

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if trainer.current_epoch:
            self._trained(trainer.current_epoch - 1)
        self.gate.wait("go")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if not trainer.sanity_checking:
            self.task.synchronize()
            self.gate.tell(aside="validation")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self.gate.tell(back="validation")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._trained(self.task.epochs - 1)

    def _trained(self, epoch: int) -> None:
        self.task.synchronize()
        self.gate.tell(trained=epoch)


def run(task: Task, gate: Gate, *more: str) -> None:
    # Early stopping watches as always, but every epoch of the race is run.
    cfg = task.compose(*(more or ["callbacks.early_stopping.patience=1000"]))
    seed_everything(cfg.seed, verbose=False)
    startup.configure_process(cfg.num_threads)
    run = build(cfg, Turn(task, gate), EpochLogger(Path(cfg.paths.run)))
    chosen: dict[str, Any] = record.hparams(cfg)
    for logger in run.trainer.loggers:
        logger.log_hyperparams(chosen)
    run.trainer.fit(run.model, datamodule=run.data)
    gate.wait("end")
    metrics, _ = evaluate(run, ("test",))
    gate.tell(accuracy=metrics["test/accuracy"], parameters=count(run.model))
