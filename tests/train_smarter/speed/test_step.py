"""Every shortcut of a step gives the result of Lightning's own way, and `speed=false` leaves it out."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import SGD

from train_smarter.commands.train import run_train
from train_smarter.config.build import build
from train_smarter.run.files import read_csv, read_json
from train_smarter.speed import step
from train_smarter.speed.dropout import Dropout
from train_smarter.speed.step import NoOpProfiler, accelerate, replace_dropout

Compose = Callable[..., DictConfig]


class Steep(BoringModel):
    """Gradients large enough to be clipped."""

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=1.0)


def trained(*, speed: bool, **options: Any) -> dict[str, Tensor]:
    lightning.seed_everything(1, verbose=False)
    model = Steep()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    if speed:
        accelerate(trainer, model)
    trainer.fit(model)
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.01},
        {"gradient_clip_val": 100.0},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 2},
        {},
    ],
)
def test_a_training_ends_with_the_same_weights_bit_for_bit(options: dict[str, Any]) -> None:
    fast, plain = trained(speed=True, **options), trained(speed=False, **options)
    assert all(fast[name].equal(plain[name]) for name in plain)


def test_gradients_are_clipped_by_the_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would compare Lightning with itself."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("Lightning was to clip")

    monkeypatch.setattr(LightningModule, "clip_gradients", refused)
    trained(speed=True, gradient_clip_val=0.01)
    with pytest.raises(AssertionError, match="Lightning was to clip"):
        trained(speed=False, gradient_clip_val=0.01)


def test_sparse_gradients_are_left_to_lightning() -> None:
    called = []
    model = BoringModel()
    model.embedding = nn.Embedding(4, 2, sparse=True)
    model._trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    model.clip_gradients = lambda *given: called.append(given)  # type: ignore[method-assign]
    optimizer = SGD(model.embedding.parameters(), lr=1.0)
    model.embedding(torch.tensor([1])).sum().backward()
    step.clip_gradients(model, optimizer, 0.1, "norm")
    assert len(called) == 1


def test_a_model_that_clips_in_its_own_way_is_left_as_it_is() -> None:
    class Own(BoringModel):
        def configure_gradient_clipping(self, *_: Any, **__: Any) -> None: ...

    model = Own()
    accelerate(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), model)
    assert model.configure_gradient_clipping.__func__ is Own.configure_gradient_clipping  # type: ignore[attr-defined]


def test_each_dropout_is_replaced_and_keeps_what_it_was_set_to() -> None:
    inner = nn.Sequential(nn.Dropout(0.25).eval(), nn.Dropout(0.5, inplace=True))
    net = nn.Sequential(nn.Linear(2, 2), inner, nn.Dropout2d())
    replace_dropout(net)
    first, second = inner[0], inner[1]
    assert [type(part) for part in (first, second, net[2])] == [Dropout, Dropout, nn.Dropout2d]
    assert [first.p, first.inplace, first.training] == [0.25, False, False]
    assert [second.p, second.inplace, second.training] == [0.5, True, True]


def test_speed_false_leaves_every_shortcut_out(compose: Compose) -> None:
    def kinds(*overrides: str) -> tuple[bool, bool, bool, bool]:
        run = build(compose("model=cnn", "trainer=cpu", *overrides))
        return (
            any(type(part) is Dropout for part in run.model.modules()),
            isinstance(run.trainer.profiler, NoOpProfiler),  # type: ignore[attr-defined]
            isinstance(run.model.configure_gradient_clipping, partial),
            run.model.on_after_backward is None,
        )

    assert kinds() == (True, True, True, True)
    assert kinds("speed=false") == (False, False, False, False)


def test_a_run_without_dropout_has_the_same_results_bit_for_bit(compose: Compose, tmp_path: Path) -> None:
    def results(speed: str) -> list[dict[str, Any]]:
        folder = tmp_path / speed
        short = ["model=mlp", "model.dropout=0", "trainer=cpu", "trainer.max_epochs=2", "trainer.gradient_clip_val=0.1"]
        run_train(compose(*short, f"speed={speed}", f"paths.run={folder}", "callbacks.progress=null"))
        timed = ("seconds", "time", "checkpoint")
        rows = [read_json(folder / "results.json"), *read_csv(folder / "metrics.csv")]
        return [{name: row[name] for name in row if not any(word in name for word in timed)} for row in rows]

    assert results("true") == results("false")
