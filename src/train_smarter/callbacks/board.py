"""Where pictures, histograms and layouts go: TensorBoard, if the run has it."""

from typing import TYPE_CHECKING

from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

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


def latest_step(trainer: Trainer) -> int:
    """The optimizer step made last, where Lightning puts the scalars of an epoch's end on TensorBoard's axis."""
    return max(0, trainer.global_step - 1)
