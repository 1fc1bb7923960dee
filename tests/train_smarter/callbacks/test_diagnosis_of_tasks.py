"""What the diagnosis measures of tasks without classes, of plain modules and of several optimizers."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.nn.functional as F
from lightning import LightningDataModule, LightningModule
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset

from train_smarter.callbacks.diagnosis import Diagnosis
from train_smarter.callbacks.epoch_logger import EpochLogger
from train_smarter.data.base import Data
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.image_data import ImageData
from train_smarter.fit.module import Model
from train_smarter.paths import CONF
from train_smarter.run.files import read_csv, read_json
from train_smarter.task.base import Task
from train_smarter.task.reconstruction import Reconstruction
from train_smarter.task.regression import Regression

LIMITS: Any = OmegaConf.to_container(OmegaConf.load(CONF / "callbacks" / "diagnosis.yaml").diagnosis.limits)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def trained(folder: Path, model: LightningModule, data: LightningDataModule, *, epochs: int = 2) -> dict[str, Any]:
    """The content of diagnosis.json after a training run."""
    lightning.seed_everything(1, verbose=False)
    own = Diagnosis(folder=str(folder), limits=LIMITS)
    callbacks: list[Any] = [EpochLogger(folder), own] if isinstance(model, Model) else [own]
    trainer = lightning.Trainer(
        default_root_dir=folder, max_epochs=epochs, callbacks=callbacks, use_distributed_sampler=False, **QUIET
    )
    trainer.fit(model, datamodule=data)
    content: dict[str, Any] = read_json(folder / "diagnosis.json")
    return content


# ---- tasks without classes


class Numbers(Data):
    """40 rows of 3 numbers and a target with mean 100 and deviation 20; `named`: the inputs are a dict."""

    def __init__(self, *, named: bool = False) -> None:
        super().__init__(batch_size=10)
        self.named = named

    def read(self) -> RawDataset:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(80, 3, generator=generator)
        targets = 100 + 20 * (inputs[:, 0] + 0.1 * torch.randn(80, generator=generator))
        parts = [
            Examples({"table": inputs[a:b]} if self.named else inputs[a:b], targets[a:b])
            for a, b in ((0, 40), (40, 60), (60, 80))
        ]
        return RawDataset([], train=parts[0], val=parts[1], test=parts[2])


class Line(Model):
    """(B, 3) -> (B, 1)."""

    def __init__(self, **model: Any) -> None:
        super().__init__(optimizer=partial(SGD, lr=0.1), **model)
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs: Any) -> Tensor:
        outputs: Tensor = self.layer(inputs["table"] if isinstance(inputs, dict) else inputs)
        return outputs


@pytest.mark.parametrize("named", [False, True])
def test_a_regression_has_metrics_and_a_chance_loss_and_no_classes(tmp_path: Path, named: bool) -> None:
    content = trained(tmp_path, Line(task=Regression(metrics={"mae": "min", "rmse": "min"})), Numbers(named=named))
    measured = content["measured"]
    assert measured["metrics"] == {"mae": "min", "rmse": "min"}
    assert measured["chance_loss"] == pytest.approx(1, abs=1e-5)  # the variance of scaled targets
    assert (measured["names"], measured["train_classes"], measured["confusion"]) == ([], [], [])
    assert (measured["val_examples"], measured["single_loss"], measured["shift"]) == (20, True, {})


def test_the_first_loss_is_held_against_that_of_outputs_that_are_zero(tmp_path: Path) -> None:
    data = Numbers()
    content = trained(tmp_path, Line(task=Regression(scale_targets=False)), data, epochs=1)
    measured = content["measured"]
    # One batch of 10 targets, each 100 +- 20: their mean square is 100^2 + 20^2, give or take.
    squares = data.examples["train"].targets.square()
    assert float(squares.min()) < measured["zero_loss"] < float(squares.max())
    assert measured["zero_loss"] == pytest.approx(measured["first_loss"], rel=0.05)  # initial outputs are small
    assert measured["chance_loss"] == pytest.approx(float(data.examples["train"].targets.var(unbiased=False)))
    assert "exploding_gradients" not in [one["name"] for one in content["findings"]]


class Dots(ImageData):
    """40 images of 1x4x4 pixels with ten labels that no task looks at."""

    def __init__(self) -> None:
        super().__init__(shape=[1, 4, 4], batch_size=10, mean=0.5, std=0.25)

    def read(self) -> RawDataset:
        images = torch.randint(0, 256, (80, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        labels = torch.arange(80) % 10
        parts = [Examples(images[a:b], labels[a:b]) for a, b in ((0, 40), (40, 60), (60, 80))]
        return RawDataset([str(i) for i in range(10)], train=parts[0], val=parts[1], test=parts[2])


class Copy(Model):
    """(B, 1, 4, 4) -> (B, 1, 4, 4)."""

    def __init__(self, **model: Any) -> None:
        super().__init__(optimizer=partial(SGD, lr=0.1), **model)
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.layer(images)
        return outputs


def test_a_reconstruction_is_held_against_the_mean_of_the_inputs_as_the_network_gets_them(tmp_path: Path) -> None:
    data = Dots()
    measured = trained(tmp_path, Copy(task=Reconstruction()), data)["measured"]
    pixels = (data.examples["train"].inputs.float() / 255 - 0.5) / 0.25
    expected = (pixels - pixels.mean(0)).square().mean()
    assert measured["chance_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert (measured["names"], measured["train_classes"]) == ([], [])
    assert "mean of channel 0" in measured["shift"]  # images, whatever is learned of them


class Strange(Regression):
    def chance_loss(self, targets: Tensor) -> float:  # noqa: ARG002
        raise ValueError("no such thing")


def test_a_task_that_cannot_tell_its_chance_loss_is_trained_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        measured = trained(tmp_path, Line(task=Strange()), Numbers())["measured"]
    assert measured["chance_loss"] is None
    assert "the chance loss of Strange is unknown to the diagnosis: no such thing" in caplog.text


class LossAlone(Task):
    """No metrics, no chance loss: what a task has to have, and no more."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs[:, 0], targets / 100)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"value": outputs}


def test_a_task_with_nothing_but_a_loss_is_diagnosed(tmp_path: Path) -> None:
    content = trained(tmp_path, Line(task=LossAlone()), Numbers())
    assert (content["measured"]["metrics"], content["measured"]["chance_loss"]) == ({}, None)
    assert content["measured"]["zero_loss"] > 0
    assert [one for one in content["findings"] if one["severity"] == "problem"] == []


# ---- modules and data of one's own


class Rows(Dataset[dict[str, Tensor]]):
    """Rows of 3 numbers; the third batch of 10 has one that is no number, if `broken`."""

    def __init__(self, *, broken: bool) -> None:
        self.rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        if broken:
            self.rows[24, 1] = torch.nan

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.rows[index], "y": self.rows[index].sum()}


class PlainData(LightningDataModule):
    def __init__(self, *, broken: bool = False) -> None:
        super().__init__()
        self.broken = broken

    def train_dataloader(self) -> Any:
        return DataLoader(Rows(broken=self.broken), batch_size=10)

    def val_dataloader(self) -> Any:
        return DataLoader(Rows(broken=False), batch_size=10)


class Plain(LightningModule):
    """A regression that knows nothing of this template; its batches are dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = self.layer(batch["x"])[:, 0]
        return outputs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
        loss = F.mse_loss(self(batch), batch["y"])
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self.log("val_loss", F.mse_loss(self(batch), batch["y"]))

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.01)


def test_a_module_and_data_of_ones_own_are_measured_without_a_task(tmp_path: Path) -> None:
    content = trained(tmp_path, Plain(), PlainData())
    measured = content["measured"]
    assert (measured["metrics"], measured["names"], measured["val_examples"]) == ({}, [], 0)
    assert (measured["chance_loss"], measured["zero_loss"]) == (None, None)
    assert measured["first_loss"] > 0
    assert [row["layer"] for row in read_csv(tmp_path / "layers.csv")] == ["layer", "layer"]
    assert content["findings"] == []


def test_a_broken_number_in_a_batch_that_is_a_dict_is_named(tmp_path: Path) -> None:
    content = trained(tmp_path, Plain(), PlainData(broken=True))
    place = content["measured"]["nan_location"]
    assert (place["epoch"], place["batch"], place["where"]) == (0, 2, "inputs of the batch (examples 4)")
    assert [one["name"] for one in content["findings"]] == ["nan_loss"]


@pytest.mark.filterwarnings("ignore:.*configure_optimizers.*")
def test_a_module_without_an_optimizer_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plain, "configure_optimizers", lambda _: None)
    assert trained(tmp_path, Plain(), PlainData(), epochs=1)["measured"]["rate"] is None


# ---- several optimizers


class Adversaries(LightningModule):
    """Two networks, each with its own optimizer: the second one steps in every other batch only, if `seldom`."""

    def __init__(self, *, seldom: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seldom = seldom
        self.generator, self.critic = nn.Linear(2, 3), nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real, fake = batch["x"], self.generator(torch.randn(len(batch["x"]), 2))
        optimizers: Any = self.optimizers()
        first, second = optimizers
        self._step(first, self.critic(fake.detach()).mean() - self.critic(real).mean())
        if not self.seldom or batch_idx % 2:
            self._step(second, -self.critic(fake).mean())

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        self.log("distance", self.critic(batch["x"]).mean())

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def configure_optimizers(self) -> Any:
        return SGD(self.critic.parameters(), lr=0.1), SGD(self.generator.parameters(), lr=1e-3)


def test_of_two_optimizers_each_layer_is_measured_when_its_own_one_steps(tmp_path: Path) -> None:
    content = trained(tmp_path, Adversaries(), PlainData(), epochs=1)
    rows = {row["layer"]: row for row in read_csv(tmp_path / "layers.csv")}
    assert rows.keys() == {"generator", "critic"}
    for name, rate in (("generator", 1e-3), ("critic", 0.1)):
        gradient, weight, update = (float(rows[name][key]) for key in ("grad_norm", "weight_norm", "update_ratio"))
        # Plain descent moves the weights by rate * gradient; medians of four steps, whose weights hardly differ.
        assert update == pytest.approx(rate * gradient / weight, rel=0.3)
        assert update > 0
    assert (content["measured"]["single_loss"], content["measured"]["rate"]) == (False, None)
    assert content["findings"] == []


def test_an_optimizer_that_steps_seldom_is_measured_where_it_does(tmp_path: Path) -> None:
    content = trained(tmp_path, Adversaries(seldom=True), PlainData(), epochs=2)
    assert [row["layer"] for row in read_csv(tmp_path / "layers.csv")] == ["generator", "critic"] * 2
    assert content["measured"]["update_peak"]["size"] < 1
    assert content["findings"] == []
