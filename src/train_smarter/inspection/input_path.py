"""Take training batches the way a training does: loader, transfer, augmentation and normalization by Lightning."""

import time
import warnings
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer

from train_smarter.data.examples import map_tensors
from train_smarter.errors import UserError

MAX_BATCHES = 20  # that are timed
MAX_SECONDS = 5.0


@dataclass(frozen=True)
class InputPath:
    """The first training batch, on the model's device, and how long the next ones took.

    seconds: a batch, the median; None: there is only one.
    """

    batch: Any
    seconds: float | None


class BatchReader(LightningModule):
    """Receives training batches, and trains nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.batch: Any = None
        self.times: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the transfer is a part of the time
        self.times.append(time.perf_counter())
        if self.batch is None:
            self.batch = map_tensors(torch.clone, batch)  # a loader may fill the same buffer again
        if len(self.times) > MAX_BATCHES or self.times[-1] - self.times[0] > MAX_SECONDS:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> None:
        return None


def read_batches(data: LightningDataModule, trainer: Trainer) -> InputPath:
    """Set the data up and take some training batches.

    Raises:
        UserError: there is none, or the data cannot be read.
    """
    reader = BatchReader()
    with warnings.catch_warnings():
        for note in (".*no `validation_step`.*", ".*will run with no optimizer.*"):  # as it is meant
            warnings.filterwarnings("ignore", note)
        trainer.fit(reader, datamodule=data)
    if reader.batch is None:
        raise UserError(f"{type(data).__name__} has no training batch: its train_dataloader is empty")
    steps = [end - start for start, end in zip(reader.times, reader.times[1:], strict=False)]
    return InputPath(reader.batch, median(steps) if steps else None)


def make_trainer(*, accelerator: str = "auto", precision: Any = None, folder: str) -> Trainer:
    """A trainer of one process that saves, logs and validates nothing."""
    return Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
