import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from train_smarter.callbacks.histograms import Histograms
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.task.classification import Classification

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*can be a significant slow")

NAMES = {"layer.weight", "layer.bias"}


class Linear(Model):
    """4 features, 3 classes."""

    def __init__(self, **model: Any) -> None:
        super().__init__(task=Classification(num_classes=3), **model)
        self.layer = nn.Linear(4, self.num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layer(inputs)
        return logits


def model() -> Linear:
    """Weights that no step changes, so that a batch's gradient can be computed afterwards."""
    torch.manual_seed(0)
    return Linear(optimizer=partial(torch.optim.SGD, lr=0.0))


def batches() -> DataLoader:
    """Four batches of two."""
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(inputs, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])), batch_size=2)


def fitted(folder: Path, net: Linear, *callbacks: Callback, **options: Any) -> EventAccumulator:
    defaults: dict[str, Any] = {"max_epochs": 1, "logger": TensorBoardLogger(folder, name="", version="")}
    trainer = Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        **defaults | options,
    )
    trainer.fit(net, batches(), batches())
    return read(folder)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"histograms": 0}).Reload()  # 0: all


def gradient(*which: int) -> Tensor:
    """Of the layer's weight, the mean over these batches."""
    net, all_batches = model(), list(batches())
    for i in which:
        (net.task.loss(net(all_batches[i][0]), all_batches[i][1]) / len(which)).backward()
    assert net.layer.weight.grad is not None
    return net.layer.weight.grad


def assert_shows(events: EventAccumulator, expected: Tensor, rel: float = 1e-5) -> None:
    shown = events.Histograms("gradients/layer.weight")[-1].histogram_value
    values = expected.double()
    assert shown.num == 12
    assert shown.min == pytest.approx(float(values.min()), rel=rel)
    assert shown.max == pytest.approx(float(values.max()), rel=rel)
    assert shown.sum_squares == pytest.approx(float(values.square().sum()), rel=rel)


def test_every_parameter_and_gradient_has_a_histogram_an_epoch_where_its_scalars_stand(tmp_path: Path) -> None:
    events = fitted(tmp_path, model(), Histograms(), max_epochs=2)
    wanted = {f"{kind}/{name}" for kind in ("weights", "gradients") for name in NAMES}
    assert set(events.Tags()["histograms"]) == wanted
    ends = [event.step for event in events.Scalars("train/accuracy")]
    assert ends == [3, 7]  # four steps an epoch, counted from 0
    assert all([event.step for event in events.Histograms(name)] == ends for name in wanted)


def test_weights_are_those_at_the_end_of_the_epoch(tmp_path: Path) -> None:
    net = Linear(optimizer=partial(torch.optim.SGD, lr=1.0))
    events = fitted(tmp_path, net, Histograms())
    shown = events.Histograms("weights/layer.bias")[0].histogram_value
    assert (shown.num, shown.max) == (3, pytest.approx(net.layer.bias.max().item(), rel=1e-6))


def test_gradients_are_those_of_the_last_batch_before_clipping(tmp_path: Path) -> None:
    assert_shows(fitted(tmp_path, model(), Histograms(), gradient_clip_val=1e-3), gradient(3))


def test_accumulated_gradients_are_the_mean_of_the_last_batches(tmp_path: Path) -> None:
    assert_shows(fitted(tmp_path, model(), Histograms(), accumulate_grad_batches=2), gradient(2, 3))


def test_the_loss_scaling_of_mixed_precision_is_taken_out(tmp_path: Path) -> None:
    scaled = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert_shows(fitted(tmp_path, model(), Histograms(), plugins=[scaled]), gradient(3), rel=0.02)  # half precision


def test_bfloat16_weights_are_counted_too(tmp_path: Path) -> None:
    events = fitted(tmp_path, model(), Histograms(), precision="bf16-true")
    assert len(events.Tags()["histograms"]) == 4


def test_values_side_by_side_are_counted_too(tmp_path: Path) -> None:
    net = model()
    net.layer.bias.data = torch.tensor([1.0, 1.0, 1.0 + 2**-52], dtype=torch.double)
    events = fitted(tmp_path, net, Histograms(), precision="64-true")
    assert events.Histograms("weights/layer.bias")[0].histogram_value.num == 3


def test_epochs_may_be_left_out(tmp_path: Path) -> None:
    events = fitted(tmp_path, model(), Histograms(every_n_epochs=2), max_epochs=4)
    for kind in ("weights", "gradients"):
        assert [event.step for event in events.Histograms(f"{kind}/layer.bias")] == [3, 11]  # epochs 0 and 2


def test_a_frozen_parameter_has_weights_but_no_gradients(tmp_path: Path) -> None:
    net = model()
    net.layer.weight.requires_grad_(False)
    events = fitted(tmp_path, net, Histograms())
    assert set(events.Tags()["histograms"]) == {"weights/layer.weight", "weights/layer.bias", "gradients/layer.bias"}


def test_values_that_are_not_finite_are_named_once_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Spoil(Callback):
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:  # noqa: ARG002
            if trainer.is_last_batch and isinstance(pl_module, Linear):
                pl_module.layer.bias.grad = torch.tensor([0.0, torch.nan, torch.inf])

    with caplog.at_level(logging.WARNING, logger="train_smarter"):
        events = fitted(tmp_path, model(), Spoil(), Histograms(), max_epochs=2)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("train_smarter")]
    assert [message.split(":")[0] for message in told] == [
        "no histogram of gradients/layer.bias",
        "no histogram of weights/layer.bias",  # 0 * nan is nan: the step has spoiled it
        "no histogram of gradients/layer.weight",  # ... and the second epoch spoils the rest
        "no histogram of weights/layer.weight",
    ]
    assert set(events.Tags()["histograms"]) == {"weights/layer.weight", "gradients/layer.weight"}


def test_several_loggers_have_the_same(tmp_path: Path) -> None:
    loggers = [TensorBoardLogger(tmp_path / name, name="", version="") for name in ("a", "b")]
    fitted(tmp_path / "a", model(), Histograms(), logger=loggers)
    first, second = (read(tmp_path / name) for name in ("a", "b"))
    assert len(first.Tags()["histograms"]) == 4
    assert first.Tags()["histograms"] == second.Tags()["histograms"]


@pytest.mark.parametrize("options", [{"logger": False}, {"fast_dev_run": True}])
def test_without_tensorboard_nothing_happens(tmp_path: Path, options: dict[str, Any]) -> None:
    assert fitted(tmp_path, model(), Histograms(), **options).Tags()["histograms"] == []


def test_an_impossible_interval_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"callbacks.histograms.every_n_epochs=0 counts epochs: 1 or more"):
        Histograms(every_n_epochs=0)
