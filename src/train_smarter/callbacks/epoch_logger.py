"""What the run folder keeps while a run trains: how inputs are treated, and how each epoch went."""

import logging
import statistics
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from train_smarter.data.base import Data
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.metric_names import epoch_values, monitor_names
from train_smarter.run.files import append_row, read_dict, write_json
from train_smarter.trust import rebase_names

log = logging.getLogger(__name__)


class EpochLogger(Callback):
    """Writes preprocess.json at the start and a row of metrics.csv each epoch; part of every run.

    Its part of a checkpoint lets a run that goes on write the rows that it would have written.

    Args:
        folder: the run's.
        training_done: training has ended before; only the evaluation is left.

    Attributes:
        seconds: of each epoch's training batches alone, without validation and what happens between epochs.
    """

    def __init__(self, folder: Path, *, training_done: bool = False) -> None:
        self.folder, self.training_done = folder, training_done
        self.seconds: list[float] = []
        self._epoch_start: float | None = None
        self._dropped: list[Any] = []  # modules whose objects were reported
        self._validated = False  # in the epoch under way
        self._written = -1  # the latest epoch with a row
        self._earlier_epochs: dict[str, float] = {}  # scores from before the run broke off
        self._seconds_done, self._resumed_at = 0.0, time.perf_counter()  # seconds before that, and since when

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, those before it broke off included."""
        return self._seconds_done + time.perf_counter() - self._resumed_at

    @property
    def seconds_per_epoch(self) -> float | None:
        """The median from the second epoch on: the first one warms up."""
        return statistics.median(self.seconds[1:] or self.seconds) if self.seconds else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        data, target = trainer.datamodule, self.folder / "preprocess.json"  # type: ignore[attr-defined]
        if trainer.is_global_zero and isinstance(data, Data) and not _is_readable(target):
            write_json(target, data.preprocess())

    def on_fit_start(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or self.training_done

    def on_train_start(self, *_: Any) -> None:
        if self.seconds:  # within an epoch
            self._epoch_start = time.perf_counter()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        self._drop_objects(trainer, checkpoint)
        checkpoint["journal"] = {
            "seconds": [*self.seconds[:-1], self.seconds[-1] + self._resume_clock()] if self.seconds else [],
            "validated": self._validated,
            "written": self._written,
            "scores": self._scores(trainer),
            "elapsed": self.elapsed,
        }

    def _drop_objects(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        """Leave hyperparameters that are objects out: a checkpoint that holds code could not be loaded again."""
        for part in (trainer.lightning_module, trainer.datamodule):  # type: ignore[attr-defined]
            key = str(getattr(part, "CHECKPOINT_HYPER_PARAMS_KEY", ""))
            objects = [name for name, value in checkpoint.get(key, {}).items() if not _is_plain(value)]
            for name in objects:
                del checkpoint[key][name]
            if objects and part not in self._dropped and trainer.is_global_zero:
                log.info(
                    "left out of checkpoints, since they are objects: hyperparameters %s of %s; load_from_checkpoint "
                    "takes them as arguments",
                    ", ".join(objects),
                    type(part).__name__,
                )
                self._dropped.append(part)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        for callback in trainer.checkpoint_callbacks:  # in a run without Last, too, as a stranger's may be
            if isinstance(state := checkpoint["callbacks"].get(callback.state_key), dict):
                rebase_names(state, Path(str(trainer.ckpt_path)).resolve().parent)
        kept = checkpoint.get("journal")
        if kept and trainer.state.fn == TrainerFn.FITTING:  # not where the best weights are fetched to be evaluated
            self.seconds, self._validated, self._written = kept["seconds"], kept["validated"], kept["written"]
            self._earlier_epochs, self._seconds_done = kept["scores"], kept["elapsed"]

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self._write(trainer, trainer.current_epoch - 1)
        self.seconds.append(0.0)
        earlier = self._earlier_epochs if isinstance(trainer.lightning_module, Model) else {}
        self._earlier_epochs = {name: value for name, value in earlier.items() if not name.startswith("val/")}
        self._epoch_start, self._validated = time.perf_counter(), False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            self._pause_clock(trainer)

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        self._pause_clock(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._validated = True
        if self.seconds and not trainer.is_last_batch:
            self._epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self._pause_clock(trainer)  # an epoch that trainer.max_steps cuts short has no last batch

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self._write(trainer, trainer.current_epoch - 1)

    def _pause_clock(self, trainer: Trainer) -> None:
        if self._epoch_start is None:
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[-1] += self._resume_clock()
        self._epoch_start = None

    def _resume_clock(self) -> float:
        return 0.0 if self._epoch_start is None else time.perf_counter() - self._epoch_start

    def _write(self, trainer: Trainer, epoch: int) -> None:
        """The row of an epoch that has ended, once its training metrics are known."""
        if epoch <= self._written or not self.seconds or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._written = epoch
        if not trainer.is_global_zero:
            return
        row: dict[str, float | None] = {"epoch": epoch, "step": trainer.global_step, "seconds": self.seconds[-1]}
        row |= self._columns(trainer)
        row |= self._scores(trainer)
        append_row(self.folder / "metrics.csv", row, more_columns=not isinstance(trainer.lightning_module, Model))

    def _columns(self, trainer: Trainer) -> dict[str, None]:
        """The same in every row, also of an epoch without a validation."""
        model = trainer.lightning_module
        return dict.fromkeys(monitor_names({"loss": "min", **model.task.metrics})) if isinstance(model, Model) else {}

    def _scores(self, trainer: Trainer) -> dict[str, float]:
        """Those of this epoch: not of a single step, nor of an earlier validation, which Lightning keeps as well."""
        logged = dict(sorted(trainer.callback_metrics.items()))
        if isinstance(trainer.lightning_module, Model):
            logged = {name: value for name, value in logged.items() if "/" in name and not name.endswith("_step")}
            stale = {name for name in logged if name.startswith("val/")}
        else:
            logged, stale = epoch_values(logged), _validation_names(trainer)
        fresh = {name: float(value) for name, value in logged.items() if self._validated or name not in stale}
        return self._earlier_epochs | fresh


def _is_readable(file: Path) -> bool:
    try:
        return bool(read_dict(file))
    except UserError:
        return False


def _is_plain(value: Any) -> bool:
    """Whether torch.load takes it with `weights_only=True`."""
    if isinstance(value, dict):
        return type(value) in (dict, OrderedDict) and all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple | set):
        return type(value) in (list, tuple, set) and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, complex, str, bytes, Tensor, torch.dtype, torch.device)


def _validation_names(trainer: Trainer) -> set[str]:
    """Names of the metrics that the validations of this process have logged."""
    results = trainer.fit_loop.epoch_loop.val_loop._results
    names = {result.meta.name for result in results.values()}
    return {name for name in trainer.callback_metrics if name.partition("/dataloader_idx_")[0] in names}
