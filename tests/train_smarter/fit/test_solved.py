"""Models whose weights are computed from the training examples, without gradient steps."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.optim import SGD

from train_smarter.data.base import Data
from train_smarter.data.interaction_data import InteractionData
from train_smarter.data.interactions import Interactions
from train_smarter.fit.module import Model
from train_smarter.task.ranking import Ranking

BARE: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Visits(InteractionData):
    """20 users, each with 10 items of 30, the small numbers more often."""

    def read_interactions(self) -> Interactions:
        draw = torch.Generator().manual_seed(0)
        items = torch.cat(
            [(torch.rand(30, generator=draw).log() * torch.arange(1, 31)).topk(10).indices for _ in range(20)]
        )
        users = torch.arange(20).repeat_interleave(10)
        names = [str(index) for index in range(30)]
        return Interactions(users, items, None, None, names[:20], names)


class Counted(Model):
    """Scores of items are their number of training rows."""

    scores: Tensor

    def __init__(self, **model: Any) -> None:
        super().__init__(task=Ranking(num_items=30, k=5), optimizer=partial(SGD, lr=0.1), **model)
        self.register_buffer("scores", torch.zeros(30))
        self.solved = 0

    def solve(self, data: Data) -> None:
        assert isinstance(data, InteractionData)
        self.scores.copy_(data.train_counts()[1])
        self.solved += 1

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.scores.expand(inputs["user"].shape[0], -1)


def fit(folder: Path, *callbacks: Callback) -> tuple[Counted, Visits, lightning.Trainer]:
    model, data = Counted(), Visits(rows="users", batch_size=8)
    saver = ModelCheckpoint(folder, filename="best", save_last=True)
    trainer = lightning.Trainer(**BARE, max_epochs=5, callbacks=[saver, *callbacks], default_root_dir=folder)
    trainer.fit(model, data)
    return model, data, trainer


def test_one_epoch_measures_what_was_solved_before_it(tmp_path: Path) -> None:
    model, data, trainer = fit(tmp_path)
    assert (model.solved, trainer.current_epoch, trainer.global_step) == (1, 1, 3)  # 3 batches
    assert model.scores.equal(data.train_counts()[1].float())
    found = trainer.callback_metrics
    assert float(found["train/loss"]) > 0
    assert float(found["val/ndcg"]) > 0


def test_a_model_that_has_no_solution_takes_gradient_steps() -> None:
    assert Counted().is_solved
    assert not Counted().automatic_optimization
    assert not Model(task=Ranking(num_items=3)).is_solved


def test_a_checkpoint_holds_the_solution_and_an_evaluation_solves_nothing(tmp_path: Path) -> None:
    trained, data, _ = fit(tmp_path)
    tester = lightning.Trainer(**BARE, enable_checkpointing=False)
    tester.test(trained, data, verbose=False)
    expected, fresh = tester.callback_metrics, Counted()
    best = tmp_path / "best.ckpt"
    tester.test(fresh, Visits(rows="users"), ckpt_path=best, verbose=False, weights_only=True)
    assert fresh.solved == 0
    assert fresh.scores.equal(trained.scores)
    assert isinstance(fresh.task, Ranking)
    assert fresh.task.popularity.equal(trained.scores)
    for name in ("test/loss", "test/ndcg", "test/coverage"):
        assert float(tester.callback_metrics[name]) == pytest.approx(float(expected[name]))
        assert float(expected[name]) > 0


def test_a_run_that_resumes_measures_no_epoch_again(tmp_path: Path) -> None:
    trained, data, _ = fit(tmp_path)
    model, trainer = Counted(), lightning.Trainer(**BARE, max_epochs=1, enable_checkpointing=False)
    trainer.fit(model, data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert trainer.global_step == 3
    assert model.scores.equal(trained.scores)


@pytest.fixture
def own_process_group() -> Iterator[None]:
    """The processes that a test makes a group of are forgotten after it, with the variables that describe them."""
    before = dict(os.environ)
    yield
    torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("own_process_group")
@pytest.mark.filterwarnings("ignore:.*sync_dist")  # each process holds the sum over all of them
def test_ddp_takes_a_model_without_gradients(tmp_path: Path) -> None:
    model, data = Counted(), Visits(rows="users", batch_size=8)
    trainer = lightning.Trainer(
        **BARE, max_epochs=2, strategy="ddp", devices=1, enable_checkpointing=False, default_root_dir=tmp_path
    )
    trainer.fit(model, data)
    assert model.scores.equal(data.train_counts()[1].float())
    assert float(trainer.callback_metrics["val/ndcg"]) > 0
