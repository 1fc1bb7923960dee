"""Where pictures, histograms and layouts go: TensorBoard, if the run has it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def wanted(trainer: Trainer) -> bool:
    """Whether the run has a TensorBoard logger; the same answer in every process."""
    return any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)


def writers(trainer: Trainer) -> "list[SummaryWriter]":
    """The event files this process writes to: one per TensorBoard logger on rank zero, none on other ranks."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def gathered(trainer: Trainer, own: Any) -> list[Any]:
    """What each process has, in every process: all have to call it."""
    shares: list[Any] = [own] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(shares, own)
    return shares


def note_left_out(callback: Callback, why: str) -> None:
    """Log that a callback does not fit the model."""
    log.info("callbacks.%s is left out: %s", type(callback).__name__.lower(), why)


def latest_step(trainer: Trainer) -> int:
    """The optimizer step made last, where Lightning puts the scalars of an epoch's end on TensorBoard's axis."""
    return max(0, trainer.global_step - 1)


def write_scalars(folder: Path, results: Mapping[str, Any], *, step: int) -> None:
    """Leaves metrics, as `test/accuracy`, in an event file of their own: a run beside the training's in TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for name, value in results.items():
            if "/" in name:
                writer.add_scalar(name, value, step)
