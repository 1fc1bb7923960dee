"""Can the run go on where it broke off? It can from last.ckpt, as if it had never stopped."""

import logging
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.trainer import call

from train_smarter.callbacks.foreign_loader import is_foreign, loader_state, restart_loader
from train_smarter.data.loader import Loader
from train_smarter.fit.module import Model
from train_smarter.run.random_state import random_state, restore_random_state
from train_smarter.run.signals import TerminatedBySignal, signals_state
from train_smarter.run.tensorboard import all_gather
from train_smarter.trust import rebase_names

log = logging.getLogger(__name__)

SYNC_EVERY = 10  # batches after which several processes ask each other whether it is time to save, or to stop
SYNC_SECONDS = 5  # seconds that a validation has to end when the run is asked to stop


class ResumeCheckpoint(Callback):
    """Writes last.ckpt when an epoch is over, within long ones every few minutes or steps, and when asked to stop.

    A run that goes on from it ends with the same weights, bit for bit on a CPU: beside what Lightning keeps, it holds
    the random state and the running counts of every process, and how many batches of the epoch are done. It is always
    taken before a batch, that of an epoch's end before the next one's first, when the rows, curves and schedules of
    the epoch are complete: so there is one kind of state to go on from, and one more when training is over.

    A foreign data loader cannot resume within an epoch: its order is exact from the beginning of one, so last.ckpt is
    written there alone. With `every_n_steps`, also within one, where only the weights are those of that step.

    Args:
        dirpath: where last.ckpt lies.
        every_n_steps: of the optimizer, from one to the next within an epoch; None: as `every_minutes` says.
        every_minutes: the same as a time; None: never.
    """

    def __init__(self, *, dirpath: str, every_n_steps: int | None = None, every_minutes: float | None = 5) -> None:
        self.file = Path(dirpath) / "last.ckpt"
        self.every_n_steps, self.every_minutes = every_n_steps, every_minutes
        self.saved_at = time.monotonic()
        self._is_writing: dict[str, Any] | None = None  # what is added to the checkpoint that is being written
        self._saved_state: dict[str, Any] | None = None  # this process's part of the one that the run goes on from
        self._batches_done, self._over = 0, False  # of its epoch; whether its training had ended
        self._loader_state: dict[str, Any] | None = None  # of a foreign loader, as the epoch began

    # ---- when

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self.saved_at = time.monotonic()
        signals_state.install()
        signals_state.deferred = True
        if isinstance(trainer.train_dataloader, Loader):
            trainer.train_dataloader.skip = self._batches_done
        else:
            self._start_foreign_loader(trainer)
        if self._saved_state is not None:  # the batch that was about to begin begins now
            total = trainer.fit_loop.epoch_loop.batch_progress.total
            total.ready = total.started  # type: ignore[attr-defined]

    def _start_foreign_loader(self, trainer: Trainer) -> None:
        kind = type(trainer.train_dataloader).__name__
        if self._batches_done:
            log.warning(
                "resumed after batch %d of an epoch, not exactly: %s begins again at its first batch, and the metrics "
                "of this epoch's training count the rest alone",
                self._batches_done,
                kind,
            )
        elif self._saved_state is not None and self._saved_state.get("loader"):
            restart_loader(trainer, self._saved_state["loader"])
            self._loader_state = self._saved_state["loader"]
        elif self.every_n_steps is None:
            log.info("last.ckpt is written at the ends of epochs only: %s cannot resume within one", kind)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if is_foreign(trainer):
            self._loader_state = loader_state(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        fresh = self._saved_state is None  # nothing has been done since last.ckpt was read
        if not fresh:
            self._restore(trainer, pl_module)
        if batch_idx % trainer.accumulate_grad_batches:  # gradients that are only half gathered are not kept
            return
        asked, late = self._stop_requested(trainer, batch_idx)
        if self._can_save(trainer, batch_idx) and (asked or (fresh and (late or self._due(trainer, batch_idx)))):
            self._save(trainer, pl_module, batch=batch_idx)
        if asked:
            # Of several processes, the first speaks for all; if another one failed, Lightning would kill it.
            raise TerminatedBySignal(signals_state.received or 15) if trainer.is_global_zero else SystemExit(0)

    def _stop_requested(self, trainer: Trainer, batch_idx: int) -> tuple[bool, bool]:
        """Whether to stop, and whether the last checkpoint is too old; the same in every process."""
        minutes = (time.monotonic() - self.saved_at) / 60
        here = signals_state.received is not None, self.every_minutes is not None and minutes >= self.every_minutes
        if trainer.world_size == 1:
            return here
        if batch_idx % SYNC_EVERY:
            return False, False
        asked, late = (trainer.strategy.reduce_boolean_decision(one, all=False) for one in here)
        return asked, late

    def _can_save(self, trainer: Trainer, batch_idx: int) -> bool:
        """Whether a run could resume here; one with a foreign loader that has made no step begins again instead."""
        within = batch_idx > 0 and self.every_n_steps is None
        return not is_foreign(trainer) or (trainer.global_step > 0 and not within)

    def _due(self, trainer: Trainer, batch_idx: int) -> bool:
        if batch_idx == 0:
            return trainer.global_step > 0
        return self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        # Within a validation nobody can go on. After a short one the epoch is saved; a long one is broken off, and with
        # it what was trained since last.ckpt, an epoch at most.
        if (
            signals_state.deferred
            and signals_state.received
            and trainer.world_size == 1
            and time.monotonic() - signals_state.received_at > SYNC_SECONDS
        ):
            raise TerminatedBySignal(signals_state.received)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, pl_module, batch=None)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        signals_state.deferred = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        signals_state.deferred = False

    # ---- what

    def _save(self, trainer: Trainer, pl_module: LightningModule, *, batch: int | None) -> None:
        """batch: the one that is about to begin, or None when training is over."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        own: dict[str, Any] = {"random": random_state(trainer.strategy.root_device), "running": None}
        if batch is not None and isinstance(pl_module, Model):
            own["running"] = pl_module.epoch_metrics["train"].buffered_state()
        if is_foreign(trainer):
            own |= self._foreign_state(trainer, over=batch is None)
        self._is_writing = {"batch": batch or 0, "over": batch is None, "processes": all_gather(trainer, own)}
        trainer.save_checkpoint(self.file, weights_only=False)  # with all that training needs
        self._is_writing, self.saved_at = None, time.monotonic()

    def _foreign_state(self, trainer: Trainer, *, over: bool) -> dict[str, Any]:
        """When training is over, the next epoch's order begins with the random state of now, and no batch has begun."""
        return {"loader": loader_state(trainer), "random": None} if over else {"loader": self._loader_state}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        if self._is_writing is None:
            return
        checkpoint["resume"] = self._is_writing
        if not self._is_writing["over"] and not trainer.fit_loop._should_accumulate():
            # On this condition Lightning adds one when it resumes, for the batch in whose middle it would have saved.
            checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            state = checkpoint["callbacks"].get(callback.state_key)
            if state and isinstance(callback, EarlyStopping):
                state["patience"] = callback.patience  # what is configured now
            elif state and isinstance(callback, ModelCheckpoint):  # the run may have moved since
                rebase_names(state, Path(str(trainer.ckpt_path)).resolve().parent)
        if kept := checkpoint.get("resume"):
            self._batches_done, self._over = kept["batch"], kept["over"]
            if len(kept["processes"]) == trainer.world_size:
                self._saved_state = kept["processes"][trainer.global_rank]

    def _restore(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._saved_state is not None
        if not isinstance(pl_module, Model) and not self._over:  # Lightning leaves it out in the epoch it resumes in
            call._call_lightning_module_hook(trainer, "on_train_epoch_start")
        if self._saved_state["random"] is not None:
            restore_random_state(self._saved_state["random"], trainer.strategy.root_device)
        if self._saved_state["running"] is not None and isinstance(pl_module, Model):
            pl_module.epoch_metrics["train"].load_buffered_state(self._saved_state["running"])
        trainer.fit_loop.restarting = False  # Lightning would leave a plateau's schedule out this epoch
        self._saved_state = None
