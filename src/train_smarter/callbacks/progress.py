"""How far is it?"""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Lightning's bar, but between two refreshes it rests: the original reads its metrics at every step.

    That took a twentieth of the step of `experiment=mnist_mlp`, and on a GPU waits for the step to end.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = self.refresh_rate and (batch_idx + 1) % self.refresh_rate == 0
        if due or trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
