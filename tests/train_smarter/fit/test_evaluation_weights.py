"""Averaged weights are those that are validated, saved, evaluated and resumed; what they are is said."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from train_smarter.commands.evaluate import run_evaluate
from train_smarter.commands.train import run_train
from train_smarter.errors import UserError
from train_smarter.fit.evaluation_weights import AveragedWeights, weights_of
from train_smarter.history.arguments import argv_for_reader
from train_smarter.report import page
from train_smarter.run.files import read_json
from train_smarter.run.record import save_hydra_config

Compose = Callable[..., DictConfig]
Resumed = Callable[..., tuple[dict[str, Any], dict[str, Any]]]
SHORT = ["model=mlp", "model.widths=[16]", "model.batch_norm=true", "trainer=cpu", "logger=none"]
SHORT += [f"callbacks.{name}=null" for name in ("progress", "summary", "diagnosis", "histograms")]


class Net(LightningModule):
    """A layer with statistics and a counter; `tied` is the same weight under a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(2, 3), nn.BatchNorm1d(3)
        self.tied = self.layer.weight

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.norm(self.layer(inputs))
        return outputs


def make_trainer(net: Net, **given: Any) -> Any:
    strategy = SimpleNamespace(lightning_module_state_dict=net.state_dict)
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    facts: dict[str, Any] = {"global_step": 0, "current_epoch": 0, "is_last_batch": False, "accumulate_grad_batches": 1}
    facts |= {"estimated_stepping_batches": 40, "num_training_batches": 10, "checkpoint_callback": None}
    return SimpleNamespace(strategy=strategy, state=state, **(facts | given))


def train(callback: AveragedWeights, net: Net, trainer: Any, steps: int) -> Iterator[int]:
    """Ten batches an epoch."""
    callback.on_fit_start(trainer, net)
    callback.on_train_start(trainer, net)
    optimizer, generator = torch.optim.SGD(net.parameters(), lr=0.1), torch.Generator().manual_seed(0)
    for step in range(trainer.global_step, steps):
        optimizer.zero_grad()
        inputs = torch.randn(4, 2, generator=generator)
        (net(inputs) - inputs.sum(1, keepdim=True)).pow(2).mean().backward()
        optimizer.step()
        trainer.global_step, trainer.current_epoch, trainer.is_last_batch = step + 1, step // 10, step % 10 == 9
        callback.on_train_batch_end(trainer, net, None, None, step % 10)
        yield step


def copy_of(net: Net) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def test_a_mean_of_epochs_is_that_of_torchs_averaged_model() -> None:
    net = Net()
    callback, reference = AveragedWeights(decay=None, interval="epoch", start=1), AveragedModel(net, use_buffers=True)
    trainer = make_trainer(net)
    for step in train(callback, net, trainer, 40):
        if step in (19, 29, 39):  # the ends of epochs 1 to 3
            reference.update_parameters(net)
    assert callback.describe() == "mean of the weights of 3 epochs"
    trained = copy_of(net)
    callback.on_validation_epoch_start(trainer, net)
    expected = reference.module.state_dict()
    for name, value in weights_of(net).items():
        torch.testing.assert_close(value.detach(), expected[name])
        assert not torch.equal(value, trained[name])
    assert net.state_dict()["norm.num_batches_tracked"].item() == 40  # a counter, not an average of it
    callback.on_validation_epoch_end(trainer, net)
    assert all(torch.equal(value, trained[name]) for name, value in net.state_dict().items())


def test_a_moving_average_starts_fast_and_becomes_that_of_torchs_averaged_model() -> None:
    net = Net()
    callback, trainer = AveragedWeights(decay=0.5), make_trainer(net)
    by_hand: dict[str, Tensor] = {}
    reference: AveragedModel | None = None
    for step in train(callback, net, trainer, 20):
        now = copy_of(net)
        if step == 0:
            by_hand = now
        elif step <= 8:  # updates 1 to 8 before it: (1 + n) / (10 + n) is at most 9 / 18, the decay
            kept = (1 + step) / (10 + step)
            by_hand = {name: kept * value + (1 - kept) * now[name] for name, value in by_hand.items()}
        if step == 8:
            reference = AveragedModel(net, use_buffers=True, avg_fn=get_ema_avg_fn(0.5))
            reference.module.load_state_dict(by_hand)
            reference.n_averaged.fill_(1)
        elif step > 8 and reference is not None:
            reference.update_parameters(net)
    assert reference is not None
    callback.on_validation_epoch_start(trainer, net)
    for name, value in weights_of(net).items():
        torch.testing.assert_close(value.detach(), reference.module.state_dict()[name])


def test_an_update_follows_a_step_of_the_optimizer_not_each_accumulated_batch() -> None:
    net = Net()
    callback, trainer = AveragedWeights(decay=0.9), make_trainer(net)
    for _ in train(callback, net, trainer, 3):
        callback.on_train_batch_end(trainer, net, None, None, 0)  # the next batch only gathers
    assert callback.updates == 3


@pytest.mark.parametrize(("start", "first"), [(0, 0), (3, 3), (0.75, 3), (0.6, 3), (0.0, 0)])
def test_averaging_starts_at_an_epoch_or_after_a_share_of_the_run(start: float, first: int) -> None:
    net = Net()
    callback, trainer = AveragedWeights(decay=None, start=start), make_trainer(net)  # 40 steps, 4 epochs
    began = next(step for step in train(callback, net, trainer, 40) if callback.updates)
    assert began == 10 * first


def test_a_share_of_a_run_without_an_end_is_refused() -> None:
    trainer = make_trainer(net := Net(), estimated_stepping_batches=float("inf"))
    with pytest.raises(UserError, match=r"needs to know its length.*callbacks\.swa\.start=10"):
        next(train(AveragedWeights(decay=None, start=0.5), net, trainer, 1))


def test_until_the_average_starts_the_trained_weights_are_validated_and_saved() -> None:
    net = Net()
    callback, trainer = AveragedWeights(decay=None, start=2), make_trainer(net)
    list(train(callback, net, trainer, 5))
    trained, saved = copy_of(net), {"state_dict": net.state_dict()}
    callback.on_validation_epoch_start(trainer, net)
    assert all(torch.equal(value, trained[name]) for name, value in net.state_dict().items())
    callback.on_save_checkpoint(trainer, net, saved)
    assert saved.keys() == {"state_dict"}


def test_a_checkpoint_holds_the_average_and_the_weights_to_resume_from(equal: Callable[[Any, Any], bool]) -> None:
    net = Net()
    callback, trainer = AveragedWeights(decay=0.9), make_trainer(net)
    list(train(callback, net, trainer, 5))
    trained = copy_of(net)
    saved: dict[str, Any] = {"state_dict": net.state_dict()}
    callback.on_save_checkpoint(trainer, net, saved)
    assert saved["weights"] == "moving average (decay 0.9) of the weights of 5 steps"
    assert equal(saved["current_model_state"], trained)
    assert equal(copy_of(net), trained)
    other, again = Net(), AveragedWeights(decay=0.9)
    other.load_state_dict(saved["state_dict"])  # as Lightning does
    again.load_state_dict(callback.state_dict())
    resumed = make_trainer(other, global_step=5)
    again.on_load_checkpoint(resumed, other, saved)
    assert equal(copy_of(other), trained)
    again.on_fit_start(resumed, other)
    again.on_train_start(resumed, other)
    again.on_validation_epoch_start(resumed, other)
    assert equal(copy_of(other), saved["state_dict"])


def test_an_error_within_a_validation_leaves_the_trained_weights_in_the_model() -> None:
    net = Net()
    callback, trainer = AveragedWeights(decay=0.9), make_trainer(net)
    list(train(callback, net, trainer, 5))
    trained = copy_of(net)
    callback.on_validation_epoch_start(trainer, net)
    assert not torch.equal(net.layer.weight, trained["layer.weight"])
    callback.on_exception(trainer, net, KeyboardInterrupt())
    assert torch.equal(net.layer.weight, trained["layer.weight"])


@pytest.mark.parametrize("words", [["callbacks=[default,ema]"], ["callbacks=[default,swa]", "callbacks.swa.start=0"]])
def test_averaged_weights_are_validated_saved_and_evaluated(
    compose: Compose, tmp_path: Path, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder, words = tmp_path / "run", [*words, *SHORT, "trainer.max_epochs=2", "monitor=val/loss"]
    cfg = compose(*words)
    save_hydra_config(cfg, folder, words)
    with caplog.at_level("INFO", logger="train_smarter"):
        best = run_train(cfg)
    reader = argv_for_reader([f"run={folder}"], "evaluate", tmp_path)
    run_evaluate(compose(*(word for word in reader if "hydra." not in word), verb="evaluate"))
    results, again = read_json(folder / "results.json"), read_json(folder / "evaluate" / "results.json")
    names = [name for name in results if "/" in name]
    assert {name: again[name] for name in names} == {name: results[name] for name in names}
    assert results["val/loss"] == pytest.approx(best, rel=1e-6)
    assert "of the weights of" in results["weights"]
    assert f"validation, checkpoint and results: {results['weights']}" in caplog.text
    page.write_at_end(folder)
    assert results["weights"] in (folder / "report.html").read_text(encoding="utf8")
    assert "train/ metrics, gradients and layers.csv are of the trained weights" in caplog.text


@pytest.mark.parametrize(
    "average", [{"decay": 0.9}, {"decay": None, "interval": "epoch", "start": 1}], ids=["ema", "swa"]
)
def test_a_run_resumed_within_an_epoch_has_the_average_of_one_that_never_stopped(
    resumed: Resumed, equal: Callable[[Any, Any], bool], average: dict[str, Any]
) -> None:
    whole, parts = resumed(lambda: [AveragedWeights(**average)], partial(Adam, lr=0.01))
    for part in ("state_dict", "current_model_state", "weights", "optimizer_states"):
        assert equal(parts[part], whole[part])
    assert not equal(whole["state_dict"], whole["current_model_state"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["callbacks=ema"], r"nothing would be saved: type 'callbacks=\[default,ema\]'"),
        (["callbacks=[default,ema,swa]"], r"one kind of weights, not those of .*decay=0\.999 and .*decay=null"),
        (["callbacks=[default,ema]", "callbacks.ema.decay=1.5"], r"ema\.decay=1\.5: give a number from 0 to below 1"),
        (["callbacks=[default,swa]", "callbacks.swa.interval=batch"], "interval='batch': give step or epoch"),
    ],
)
def test_a_wrong_word_is_answered_with_what_to_type(compose: Compose, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_train(compose(*words, "model=mlp", "trainer=cpu", "logger=none"))
