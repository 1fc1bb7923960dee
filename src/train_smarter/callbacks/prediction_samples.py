"""What does the model confuse, and what do its mistakes look like?"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from train_smarter.data.examples import count_rows
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.report.figures import views_of, write_content, write_details
from train_smarter.run import tensorboard
from train_smarter.run.files import write_json
from train_smarter.run.tensorboard import warn_skipped
from train_smarter.task.base import Task
from train_smarter.task.samples.base import Samples

log = logging.getLogger(__name__)


class PredictionSamples(Callback):
    """After a test run: what the task shows of the predictions for the last split (usually test).

    For the report, in examples.json (classification) or samples.json; for TensorBoard, if the run has it, as pictures
    and texts, with the confusion matrix, or the table of labels, of every split. Nothing that fails here ends a run.

    Args:
        samples: examples shown.
        folder: the run's; None: no file.
    """

    needs_task = True

    def __init__(self, *, samples: int = 16, folder: str | None = None) -> None:
        self.samples = samples
        self.folder = None if folder is None else Path(folder)
        self.kept: Samples | None = None
        self._seen = 0  # examples of this process
        self._error: Exception | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        task = getattr(pl_module, "task", None)
        usable = self._is_enabled(trainer) and isinstance(pl_module, Model) and isinstance(task, Task)
        self.kept = task.make_samples(self.samples) if usable and isinstance(task, Task) else None
        self._seen, self._error = 0, None

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,
    ) -> None:
        """Every process keeps samples of its own share."""
        if self.kept is None or self._error or not isinstance(pl_module, Model):
            return
        if dataloader_idx == len(pl_module.test_metrics) - 1:
            try:
                self.kept.add(batch, outputs, self._indices(trainer, batch))
            except Exception as error:
                self._error = error

    def _indices(self, trainer: Trainer, batch: Any) -> Sequence[int]:
        """Of the batch's examples in their split: the processes take turns."""
        first, count = self._seen, count_rows(batch[0])
        self._seen += count
        rank, world = trainer.global_rank, trainer.world_size
        return range(first * world + rank, (first + count) * world + rank, world)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._is_enabled(trainer) or not isinstance(pl_module, Model):
            return
        if self.kept is not None:
            self.kept.merge(tensorboard.all_gather(trainer, self.kept.groups))  # every process has to call it
        if not trainer.is_global_zero:
            return
        try:
            self._write(trainer, pl_module)
        except Exception as error:
            self._error = self._error or error
        if isinstance(self._error, UserError):
            warn_skipped(self, str(self._error))
        elif self._error is not None:
            log.warning("callbacks.prediction_samples failed: %r", self._error, exc_info=self._error)

    def _write(self, trainer: Trainer, model: Model) -> None:
        data, step = trainer.datamodule, trainer.global_step  # type: ignore[attr-defined]
        names = [str(name) for name in getattr(data, "names", None) or ()]
        writers = tensorboard.tensorboard_writers(trainer)
        for writer in writers:
            for split, metric in model.test_metrics.items():
                write_details(writer, split, metric.details(), names, step=step)
        if self.kept is None or self._error:
            return
        split = list(model.test_metrics)[-1]
        content = self.kept.content(split, data, model)
        if self.folder is not None and (isinstance(content, list) or views_of(content)):
            write_json(self.folder / self.kept.file, content)
        for writer in writers:
            write_content(writer, f"predictions/{split}", content, step=step)

    def _is_enabled(self, trainer: Trainer) -> bool:
        """The same answer in every process."""
        return self.folder is not None or tensorboard.has_tensorboard(trainer)
