"""Did a training train anything?"""

from lightning import Trainer
from lightning.pytorch.callbacks import Timer

from train_smarter.errors import UserError


def check_trained(trainer: Trainer) -> None:
    """Raise a UserError unless the run, earlier starts included, has made a step: its results would be of no training.

    A module that optimizes manually may step past Lightning's count: there, a batch is enough.
    """
    batches = trainer.fit_loop.epoch_loop.batch_progress.total.completed
    steps = trainer.global_step if trainer.lightning_module.automatic_optimization else batches
    if not steps:
        raise UserError(f"nothing was trained, no step was made: {_find_reason(trainer)}")


def _find_reason(trainer: Trainer) -> str:
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
    remaining = [seconds for timer in timers if (seconds := timer.time_remaining()) is not None]
    if remaining and min(remaining) <= 0:
        return "the time was over before: type trainer.max_time=... (days:hours:minutes:seconds), or null"
    if 0 in (trainer.limit_train_batches, trainer.num_training_batches):
        limit = trainer.limit_train_batches
        return f"trainer.limit_train_batches={limit} leaves no batch: type trainer.limit_train_batches=1.0"
    return "look at the limits of the trainer, and for a callback or a hook that stops it"
