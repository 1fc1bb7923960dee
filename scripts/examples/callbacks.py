"""Placeholder: logs how large the weights are. Replace the hook with your own."""

import logging

from lightning import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class Placeholder(Callback):
    """Log the norm of all weights after each epoch.

    Args:
        every: epochs from one line to the next.
    """

    def __init__(self, *, every: int = 1) -> None:
        self.every = every

    # Your own hooks go here; `lightning.Callback` lists them. An argument is a key in the YAML file.
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.current_epoch % self.every == 0:
            squares = sum(float(weight.detach().square().sum()) for weight in pl_module.parameters())
            log.info("epoch %d: the norm of all weights is %.4g", trainer.current_epoch, squares**0.5)
