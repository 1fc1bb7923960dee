"""Are weights and gradients healthy: do they grow without end, vanish, or stand still?"""

import logging
from collections.abc import Mapping, Sequence

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from train_smarter.errors import UserError
from train_smarter.run import tensorboard

log = logging.getLogger(__name__)


# TensorBoard redraws about 30. Even bins cost a fifth of SummaryWriter's default, 1,549 uneven ones.
BINS = 64
SHOWN = 4  # names of tensors in a warning


class Histograms(Callback):
    """Every weight and bias, and every gradient, as histograms in TensorBoard: `weights/...` and `gradients/...`.

    Weights are those at the epoch's end. Gradients are those of the epoch's last optimizer step, as the optimizer would
    take them unclipped: the mean over accumulated batches and processes, freed of mixed precision's loss scaling (an
    optimizer that unscales by itself, a fused one under 16-mixed, has them scaled still). An epoch that is cut short
    shows no gradients. Both stand at the optimizer's step, as the scalars do.

    Args:
        every: epochs from one to the next, beginning with the first.
    """

    def __init__(self, *, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise UserError(
                f"callbacks.histograms.every_n_epochs={every_n_epochs} counts epochs: 1 or more "
                "(callbacks.histograms=null: none)"
            )
        self.every_n_epochs = every_n_epochs
        self._warned: set[str] = set()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:  # noqa: ARG002
        if trainer.is_last_batch and self._due(trainer):
            gradients = {f"gradients/{name}": p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
            self._write(trainer, gradients, step=trainer.global_step)  # the step that is being made

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due(trainer):
            weights = {f"weights/{name}": parameter for name, parameter in pl_module.named_parameters()}
            self._write(trainer, weights, step=tensorboard.latest_step(trainer))

    def _due(self, trainer: Trainer) -> bool:
        return trainer.current_epoch % self.every_n_epochs == 0

    def _write(self, trainer: Trainer, tensors: Mapping[str, Tensor], *, step: int) -> None:
        if not (writers := tensorboard.tensorboard_writers(trainer)):
            return
        broken = []
        for name, tensor in tensors.items():
            values = tensor.detach().float().cpu()  # doubles can be too close together to fit numpy's bins between
            if not values.numel() or not torch.isfinite(values).all():
                broken.append(name)
                continue
            for writer in writers:
                writer.add_histogram(name, values, step, bins=BINS)
        self._warn_once(broken)

    def _warn_once(self, names: Sequence[str]) -> None:
        """One line for all tensors that became unfit together: a NaN loss spoils every weight at once."""
        new = [name for name in names if name not in self._warned]
        self._warned.update(new)
        if new:
            more = f" and {len(new) - SHOWN} more" if len(new) > SHOWN else ""
            log.warning("no histogram of %s%s: empty, or with values that are not finite", ", ".join(new[:SHOWN]), more)
