"""How far is it?"""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

REFRESH_SECONDS = 1.0  # seconds; least time between two drawings


class Progress(RichProgressBar):
    """Lightning's bar, drawn every `refresh_rate` steps, but at most once a second.

    The original reads its metrics at every step, which on a GPU waits for the step to end, and draws the lines of all
    epochs so far with every refresh: small networks spent half of their time on that.
    """

    drawn_at = 0.0  # on the monotonic clock

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = self.refresh_rate and (batch_idx + 1) % self.refresh_rate == 0
        if (due and time.monotonic() - self.drawn_at >= REFRESH_SECONDS) or trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self.drawn_at = time.monotonic()
