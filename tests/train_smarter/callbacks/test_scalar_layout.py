import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata
from torch import Tensor, nn
from torch.utils.data import DataLoader

from train_smarter.callbacks.scalar_layout import ScalarLayout
from train_smarter.run.tensorboard import log_hparams
from train_smarter.task.base import Task
from train_smarter.task.regression import Regression

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*can be a significant slow")

LOSS = {"loss": ["train/loss", "val/loss", "test/loss"]}


class Constant(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:  # noqa: ARG002
        self.log("train/loss_step", self.a)
        self.log("train/loss", self.a, on_step=False, on_epoch=True)
        return batch.mean() * self.a

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fitted(
    folder: Path, *, curves: Mapping[str, Sequence[str] | None] = LOSS, task: Task | None = None, **options: Any
) -> Trainer:
    """After two steps."""
    module = Constant()
    if task is not None:
        module.task = task
    defaults: dict[str, Any] = {"logger": TensorBoardLogger(folder, name="", version="", default_hp_metric=False)}
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[ScalarLayout(curves=curves)],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        **defaults | options,
    )
    trainer.fit(module, DataLoader(torch.ones(2)))  # type: ignore[arg-type]
    return trainer


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def layout(folder: Path) -> Layout:
    tensor = events(folder).Tensors("custom_scalars__config__")[0].tensor_proto
    return Layout.FromString(tensor.string_val[0])


def test_the_curves_of_all_splits_share_a_chart(tmp_path: Path) -> None:
    fitted(tmp_path, curves={**LOSS, "f1": ["train/f1", "val/f1"], "recall": None})
    (category,) = layout(tmp_path).category
    assert [chart.title for chart in category.chart] == ["loss", "f1"]  # None leaves recall out
    assert list(category.chart[1].multiline.tag) == ["train/f1$", "val/f1$"]


def test_each_metric_of_the_task_has_a_chart(tmp_path: Path) -> None:
    fitted(tmp_path, curves={"mae": None, "lr": ["lr-Adam"]}, task=Regression(metrics={"rmse": "min", "mae": "min"}))
    (category,) = layout(tmp_path).category
    assert [chart.title for chart in category.chart] == ["loss", "rmse", "lr"]
    assert list(category.chart[1].multiline.tag) == ["train/rmse$", "val/rmse$", "test/rmse$"]


def test_a_module_without_a_task_has_a_chart_of_its_losses(tmp_path: Path) -> None:
    fitted(tmp_path, curves={})
    (chart,) = layout(tmp_path).category[0].chart
    assert {"train/loss$", "val_loss$"} <= set(chart.multiline.tag)


def test_a_chart_takes_its_curves_and_no_longer_names(tmp_path: Path) -> None:
    fitted(tmp_path)
    (pattern, *_) = layout(tmp_path).category[0].chart[0].multiline.tag
    logged = events(tmp_path).Tags()["scalars"]
    assert {"train/loss", "train/loss_step"} <= set(logged)
    assert [name for name in logged if re.match(pattern, name)] == ["train/loss"]  # `match`, as TensorBoard does


def hparams(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = events(folder).PluginTagToContent(metadata.PLUGIN_NAME)
    return found


def test_the_choices_stand_on_the_hparams_page_spelled_as_in_yaml(tmp_path: Path) -> None:
    choices: dict[str, object] = {"model": "cnn", "optimizer.lr": 1e-3, "model.batch_norm": True, "scheduler": None}
    choices["widths"] = [128]
    log_hparams(fitted(tmp_path), choices=choices, metrics={"test/accuracy": 0.5})
    info = metadata.parse_session_start_info_plugin_data(hparams(tmp_path)[metadata.SESSION_START_INFO_TAG])
    shown = {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}
    assert shown == choices | {"model.batch_norm": "true", "scheduler": "null", "widths": "[128]"}
    end = metadata.parse_session_end_info_plugin_data(hparams(tmp_path)[metadata.SESSION_END_INFO_TAG])
    assert end.status == 1  # success


def test_the_best_metrics_stand_beside_them_and_no_curve_gets_a_point_more(tmp_path: Path) -> None:
    trainer = fitted(tmp_path)
    before = [event.step for event in events(tmp_path).Scalars("train/loss")]
    log_hparams(trainer, choices={}, metrics={"train/loss": 0.25, "test/accuracy": 0.5})
    after = events(tmp_path)
    for name, value in {"train/loss": 0.25, "test/accuracy": 0.5}.items():
        assert [(event.step, event.value) for event in after.Scalars(f"best/{name}")] == [(2, value)]
    assert [event.step for event in after.Scalars("train/loss")] == before


def test_no_run_decides_which_columns_other_runs_have(tmp_path: Path) -> None:
    log_hparams(fitted(tmp_path), choices={"model": "cnn"}, metrics={})
    assert metadata.EXPERIMENT_TAG not in hparams(tmp_path)


@pytest.mark.parametrize("options", [{"logger": False}, {"fast_dev_run": True}])
def test_without_tensorboard_nothing_happens(tmp_path: Path, options: dict[str, Any]) -> None:
    log_hparams(fitted(tmp_path, **options), choices={"model": "cnn"}, metrics={"test/accuracy": 0.5})
    assert not list(tmp_path.glob("events*"))


def test_several_loggers_are_served(tmp_path: Path) -> None:
    boards = [TensorBoardLogger(tmp_path / name, name="", version="") for name in ("a", "b")]
    trainer = fitted(tmp_path, logger=[boards[0], CSVLogger(tmp_path / "c"), boards[1]])
    log_hparams(trainer, choices={"model": "cnn"}, metrics={"test/accuracy": 0.5})
    for name in ("a", "b"):
        assert layout(tmp_path / name).category
        assert metadata.SESSION_START_INFO_TAG in hparams(tmp_path / name)
