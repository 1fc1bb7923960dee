"""With each of Lightning's callbacks, results are those of the weights that the checkpoint holds; or it is refused."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EMAWeightAveraging,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
)
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from train_smarter.errors import UserError
from train_smarter.fit.evaluation_weights import AveragedWeights
from train_smarter.fit.lr_schedule import LRSchedule
from train_smarter.fit.module import Model
from train_smarter.fit.stock_callbacks import check_callbacks, check_evaluation_weights
from train_smarter.task.classification import Classification


class Finetuned(Model):
    """A model with layers that are named as Lightning's callback wants them."""

    def __init__(self, **model: Any) -> None:
        super().__init__(task=Classification(num_classes=2), **model)
        self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 1)


def check(callback: Any, model: Model | None = None, *, world: int = 1) -> None:
    trainer: Any = SimpleNamespace(callbacks=[callback], world_size=world)
    check_callbacks(trainer, model or Finetuned())


@pytest.mark.parametrize(
    ("callback", "told"),
    [
        (StochasticWeightAveraging(0.1), r"no checkpoint would hold.*callbacks=\[default,swa\]"),
        (EMAWeightAveraging(), r"validates the initial weights.*callbacks=\[default,ema\]"),
        (BatchSizeFinder(), r"changes the batch size.*type data\.batch_size=\.\.\."),
        (LearningRateFinder(), r"changes the learning rate.*type optimizer\.lr=\.\.\."),
        (ModelPruning("l1_unstructured"), "prunes after the validation"),
    ],
)
def test_a_callback_whose_result_a_run_cannot_keep_is_refused(callback: Any, told: str) -> None:
    with pytest.raises(UserError, match=f"callbacks: {type(callback).__name__} .*{told}"):
        check(callback)


def test_a_backbone_is_finetuned_where_there_is_one_whose_weights_one_process_trains() -> None:
    check(BackboneFinetuning())
    with pytest.raises(UserError, match=r"needs layers that Model names `backbone`.*model\.freeze=backbone"):
        check(BackboneFinetuning(), Model(task=Classification(num_classes=2)))
    with pytest.raises(UserError, match=r"DDP does not average over its 2 processes: type trainer=auto"):
        check(BackboneFinetuning(), world=2)
    schedule = LRSchedule(torch_scheduler=partial(OneCycleLR, max_lr=1.0, total_steps=3))
    with pytest.raises(UserError, match="scheduler=onecycle has no rates for them: type scheduler=cosine"):
        check(BackboneFinetuning(), Finetuned(scheduler=schedule))


def test_two_kinds_of_evaluation_weights_are_refused() -> None:
    two = [AveragedWeights(decay=0.9), AveragedWeights(decay=None)]
    with pytest.raises(UserError, match=r"one kind of weights, not those of .*decay=0\.9 and .*decay=null: leave one"):
        check_evaluation_weights(two)


def test_a_checkpoint_of_weights_alone_is_refused_since_it_would_hold_those_that_were_not_validated() -> None:
    checkpoint = ModelCheckpoint(save_weights_only=True)
    with pytest.raises(UserError, match=r"type callbacks\.checkpoint\.save_weights_only=false"):
        check_evaluation_weights([AveragedWeights(decay=0.9), checkpoint])
    check_evaluation_weights([checkpoint])
