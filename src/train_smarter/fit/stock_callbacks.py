"""Lightning's callbacks that change weights or the trainer: which of them a run can have, and which weights count."""

import logging
from collections.abc import Sequence

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BatchSizeFinder,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

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


def check_callbacks(trainer: Trainer, model: LightningModule) -> None:
    """Raise a UserError for a callback whose result the run could not keep, or that does not fit the model."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        for kind, reason in REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"callbacks: {name} {reason}")
        if isinstance(callback, BackboneFinetuning) and not isinstance(getattr(model, "backbone", None), nn.Module):
            raise UserError(
                f"callbacks: {name} needs layers that {type(model).__name__} names `backbone`: name them so in its "
                "class; to train the head alone, a train_smarter.Model takes model.freeze=backbone"
            )
        if isinstance(callback, BaseFinetuning) and _is_one_cycle(model):
            raise UserError(
                f"callbacks: {name} adds weights to the optimizer, and scheduler=onecycle has no rates for them: type "
                "scheduler=cosine"
            )
        if isinstance(callback, BaseFinetuning) and trainer.world_size > 1:
            raise UserError(
                f"callbacks: {name} unfreezes weights later, whose gradients DDP does not average over its "
                f"{trainer.world_size} processes: type trainer=auto, for one process"
            )


def _is_one_cycle(model: LightningModule) -> bool:
    schedule = getattr(model, "scheduler", None)
    return getattr(getattr(schedule, "torch_scheduler", None), "func", None) is OneCycleLR


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
