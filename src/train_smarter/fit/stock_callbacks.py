"""Lightning's callbacks that change weights or the trainer: which of them a run can have, and which weights count."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BatchSizeFinder,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from train_smarter.errors import UserError
from train_smarter.fit.evaluation_weights import EvaluationWeights

log = logging.getLogger(__name__)

AVERAGE = "callbacks=[default,ema] (a moving average), or callbacks=[default,swa] (the mean of the last epochs)"
# Why a run cannot have them, and what to type instead.
REFUSED: dict[type[Callback], str] = {
    StochasticWeightAveraging: "averages the weights after the last validation, so no checkpoint would hold its "
    f"result: type {AVERAGE}",
    WeightAveraging: "validates the initial weights until its first update, and averages counters: type " + AVERAGE,
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


def check_evaluation_weights(callbacks: Sequence[Callback]) -> None:
    """Raise a UserError for two kinds of them, or a checkpoint without any; before Lightning refuses two of a class."""
    kinds = [callback for callback in callbacks if isinstance(callback, EvaluationWeights)]
    if len(kinds) > 1:
        names = " and ".join(kind.name for kind in kinds)
        raise UserError(f"a run validates and saves one kind of weights, not those of {names}: leave one of them out")
    plain = [one for one in callbacks if isinstance(one, ModelCheckpoint) and one.save_weights_only]
    if kinds and plain:
        raise UserError(
            f"save_weights_only=true would save the trained weights, and {kinds[0].name} validates others: type "
            "callbacks.checkpoint.save_weights_only=false"
        )


def _is_one_cycle(model: LightningModule) -> bool:
    schedule = getattr(model, "scheduler", None)
    return getattr(getattr(schedule, "torch_scheduler", None), "func", None) is OneCycleLR


def sort_callbacks(callbacks: Sequence[Callback]) -> list[Callback]:
    """Evaluation weights last: what saves a run at its end needs the weights that it would go on from."""
    return sorted(callbacks, key=lambda callback: isinstance(callback, EvaluationWeights))


def evaluated_weights(trainer: Trainer, checkpoint: Mapping[str, Any]) -> str | None:
    """What the weights are that a trained run is evaluated with, which is logged; None: those of the training.

    Args:
        checkpoint: the content of the best one; empty: the run is evaluated as it has ended.
    """
    found = [callback for callback in trainer.callbacks if isinstance(callback, EvaluationWeights)]  # type: ignore[attr-defined]
    if not found:
        return None
    description: str = (checkpoint.get("weights") if checkpoint else found[0].description) or "trained weights"
    log.info("validation, checkpoint and results: %s", description)
    return description
