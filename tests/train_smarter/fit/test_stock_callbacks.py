"""With each of Lightning's callbacks, results are those of the weights that the checkpoint holds; or it is refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
)
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from train_smarter.commands.evaluate import run_evaluate
from train_smarter.commands.train import run_train
from train_smarter.errors import UserError
from train_smarter.fit.lr_schedule import LRSchedule
from train_smarter.fit.module import Model
from train_smarter.fit.stock_callbacks import check_callbacks
from train_smarter.history.arguments import argv_for_reader
from train_smarter.run.files import read_json
from train_smarter.run.record import save_hydra_config
from train_smarter.task.classification import Classification

Compose = Callable[..., DictConfig]
Typed = Callable[..., tuple[int, str]]
SHORT = ["model=mlp", "model.widths=[16]", "model.batch_norm=true", "trainer=cpu", "logger=none"]
SHORT += [f"callbacks.{name}=null" for name in ("progress", "summary", "diagnosis", "histograms")]
EMA = "+callbacks.average._target_=lightning.pytorch.callbacks.EMAWeightAveraging"
BY_STEPS = [EMA, "+callbacks.average.decay=0.9"]
BY_EPOCHS = [EMA, "+callbacks.average.update_every_n_steps=0", "+callbacks.average.update_starting_at_epoch=0"]


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
        (StochasticWeightAveraging(0.1), r"no checkpoint would hold.*_target_=lightning\..*\.EMAWeightAveraging"),
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


@pytest.mark.parametrize("average", [BY_STEPS, BY_EPOCHS], ids=["by steps", "by epochs"])
def test_averaged_weights_are_validated_saved_and_evaluated(
    compose: Compose, tmp_path: Path, average: list[str]
) -> None:
    folder, words = tmp_path / "run", [*SHORT, *average, "trainer.max_epochs=2", "monitor=val/loss"]
    cfg = compose(*words)
    save_hydra_config(cfg, folder, words)
    best = run_train(cfg)
    reader = argv_for_reader([f"run={folder}"], "evaluate", tmp_path)
    run_evaluate(compose(*(word for word in reader if "hydra." not in word), verb="evaluate"))
    results, again = read_json(folder / "results.json"), read_json(folder / "evaluate" / "results.json")
    names = [name for name in results if "/" in name]
    assert {name: again[name] for name in names} == {name: results[name] for name in names}
    assert results["val/loss"] == pytest.approx(best, rel=1e-6)


@pytest.mark.slow
def test_a_resumed_average_is_that_of_a_run_that_never_stopped(
    typed: Typed, tmp_path: Path, equal: Callable[[Any, Any], bool]
) -> None:
    def trained(name: str, *plans: str) -> dict[str, Any]:
        folder = tmp_path / "train" / "runs" / name
        first = [*SHORT, *BY_STEPS, "test=false", f"hydra.run.dir={folder}"]
        for number, plan in enumerate(plans):
            code, told = typed(*(first if number == 0 else [f"resume={folder}"]), plan)
            assert code == 0, told
        state: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        return {key: state[key] for key in ("state_dict", "current_model_state", "averaging_state")}

    whole = trained("whole", "trainer.max_epochs=4")
    assert equal(trained("parts", "trainer.max_epochs=2", "trainer.max_epochs=4"), whole)
    average: dict[str, Tensor] = whole["state_dict"]
    assert not equal(average, whole["current_model_state"])
