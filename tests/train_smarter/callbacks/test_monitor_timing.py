"""A metric is read when it has been measured, and every place names the same best epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from omegaconf import DictConfig

from train_smarter.callbacks.monitor_timing import MonitorTiming
from train_smarter.commands.train import run_train
from train_smarter.run.files import read_csv, read_json

Compose = Callable[..., DictConfig]
SHORT = ["model=mlp", "model.widths=[8]", "trainer=cpu", "logger=none", "test=false", "trainer.limit_train_batches=4"]
QUIET = ["callbacks.diagnosis=null", "callbacks.progress=null", "callbacks.summary=null", "callbacks.histograms=null"]


OPTIONS: dict[str, Any] = {
    "accelerator": "cpu",
    "limit_train_batches": 2,
    "limit_val_batches": 2,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.mark.parametrize(
    "options",
    [
        ["trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4"],
        ["trainer.val_check_interval=0.5", "trainer.max_epochs=2"],
        ["trainer.limit_val_batches=0", "trainer.check_val_every_n_epoch=3", "trainer.max_epochs=2"],
    ],
)
def test_a_training_metric_is_read_when_its_epoch_is_over(compose: Compose, tmp_path: Path, options: list[str]) -> None:
    best = run_train(compose(*SHORT, *QUIET, *options, "monitor=train/loss", "optimizer.lr=1e-3"))
    folder = tmp_path / "run"
    rows = read_csv(folder / "metrics.csv")
    losses = [float(row["train/loss"]) for row in rows]
    expected = {"best_value": min(losses), "best_epoch": losses.index(min(losses))}
    for name in ("results.json", "record.json"):
        content = read_json(folder / name)
        assert {key: content[key] for key in expected} == expected, name
    assert best == min(losses)
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["epoch"] == expected["best_epoch"]


def test_the_best_of_several_validations_in_an_epoch_is_the_same_everywhere(compose: Compose, tmp_path: Path) -> None:
    options = ["trainer.val_check_interval=0.25", "trainer.max_epochs=2", "optimizer.lr=0.5", "monitor=val/loss"]
    best = run_train(compose(*SHORT, *QUIET, *options))
    results, record = (read_json(tmp_path / "run" / name) for name in ("results.json", "record.json"))
    last = [float(row["val/loss"]) for row in read_csv(tmp_path / "run" / "metrics.csv")]
    assert best < min(last), "the best one is to be in the middle of an epoch"
    assert results["best_value"] == record["best_value"] == best
    assert results["best_epoch"] == record["best_epoch"]


class Logging(BoringModel):
    """A LightningModule without a task: its training metric falls by 1 in each epoch, that of validation rises."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("fit_score", 10.0 - self.current_epoch, on_epoch=True, on_step=False)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
        self.log("check_score", 1.0 + self.current_epoch)


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize(("monitor", "best", "stop"), [("fit_score", 7.0, 4), ("check_score", 2.0, 4)])
def test_a_metric_of_a_module_without_a_task_is_read_in_its_time(
    tmp_path: Path, monitor: str, best: float, stop: int, sanity: int
) -> None:
    """4 epochs with a validation after the second and the fourth."""
    checkpoint = ModelCheckpoint(tmp_path, monitor=monitor, mode="min")
    stopping = EarlyStopping(monitor, patience=1, mode="min", strict=False)
    callbacks = [MonitorTiming(), stopping, checkpoint]
    plan: dict[str, Any] = {"max_epochs": 4, "check_val_every_n_epoch": 2, "num_sanity_val_steps": sanity}
    trainer = lightning.Trainer(**OPTIONS, **plan, callbacks=callbacks)
    trainer.fit(Logging())
    assert checkpoint.best_model_score == best
    assert trainer.current_epoch == stop
    assert stopping.best_score == best


def test_a_setting_of_the_users_own_stays() -> None:
    stopping = EarlyStopping("fit_score", mode="min", strict=False, check_on_train_epoch_end=False)
    callbacks = [MonitorTiming(), stopping]
    trainer = lightning.Trainer(**OPTIONS, max_epochs=2, enable_checkpointing=False, callbacks=callbacks)
    trainer.fit(Logging())
    assert stopping.best_score == 10.0  # in the validation of the second epoch: that of the first
