"""Lightning's callbacks that change weights or the trainer: which of them a run can have, and which weights count."""

import logging
from collections.abc import Sequence

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)

from train_smarter.errors import UserError

log = logging.getLogger(__name__)

AVERAGE = "lightning.pytorch.callbacks.EMAWeightAveraging"
# Why a run cannot have them, and what to type instead.
REFUSED: dict[type[Callback], str] = {
    StochasticWeightAveraging: "averages the weights after the last validation, so no checkpoint would hold its "
    f"result: give callbacks.NAME._target_={AVERAGE}, whose average is validated and saved",
    BatchSizeFinder: "changes the batch size while the run's config keeps another one, so nobody could resume or "
    "repeat the run: type data.batch_size=..., or search it, train -m data.batch_size=32,64,128",
    LearningRateFinder: "changes the learning rate while the run's config keeps another one, so nobody could resume "
    "or repeat the run: type optimizer.lr=..., or search it, train -m search=default "
    "'optimizer.lr=tag(log,interval(1e-4,1e-1))'",
    ModelPruning: "prunes after the validation, so the best checkpoint would hold other weights than those that were "
    "validated, and a resumed run would let pruned weights grow: leave it out",
}


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raise a UserError for a callback whose result the run could not keep."""
    for callback in callbacks:
        for kind, reason in REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"callbacks: {type(callback).__name__} {reason}")


def sort_callbacks(callbacks: Sequence[Callback]) -> list[Callback]:
    """Weight averaging last: what saves a run at its end needs the weights that it would go on from."""
    return sorted(callbacks, key=lambda callback: isinstance(callback, WeightAveraging))


def averages_weights(trainer: Trainer) -> bool:
    return any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def detach_averaging(trainer: Trainer) -> None:
    """Take weight averaging out of a trainer that has trained.

    A checkpoint holds the average as its weights; the callback would put the weights of the last step in their place.
    """
    if averages_weights(trainer):
        log.info("weights are averaged: validation, checkpoints and results are those of the average")
        kept = [callback for callback in trainer.callbacks if not isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
        trainer.callbacks = kept  # type: ignore[attr-defined]
