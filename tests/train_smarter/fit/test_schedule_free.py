"""A schedule-free optimizer trains in its train mode; everything that is evaluated or saved is its average."""

from collections.abc import Callable
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

from train_smarter.commands.evaluate import run_evaluate
from train_smarter.commands.train import run_train
from train_smarter.config import check as config_check
from train_smarter.config.check import check
from train_smarter.errors import UserError
from train_smarter.fit.evaluation_weights import ScheduleFreeWeights
from train_smarter.history.arguments import argv_for_reader
from train_smarter.run.files import read_json
from train_smarter.run.record import save_hydra_config

Compose = Callable[..., DictConfig]
Resumed = Callable[..., tuple[dict[str, Any], dict[str, Any]]]
SHORT = ["optimizer=schedulefree", "model=mlp", "trainer=cpu", "logger=none", "trainer.max_epochs=2"]


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)


def step(net: Net, optimizer: Any, number: int) -> None:
    optimizer.zero_grad()
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
    (net.layer(inputs) - inputs.sum(1, keepdim=True)).pow(2).mean().backward()
    optimizer.step()


def copy_of(net: Net) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_validations_and_checkpoints_have_the_weights_of_eval_and_change_no_bit_of_the_training(
    equal: Callable[[Any, Any], bool],
) -> None:
    schedulefree = pytest.importorskip("schedulefree")
    net, plain = Net(), Net()
    optimizer, alone = (schedulefree.AdamWScheduleFree(each.parameters(), lr=0.1) for each in (net, plain))
    strategy, state = SimpleNamespace(lightning_module_state_dict=net.state_dict), SimpleNamespace(fn=TrainerFn.FITTING)
    trainer: Any = SimpleNamespace(optimizers=[optimizer], strategy=strategy, state=state)
    callback = ScheduleFreeWeights()
    callback.on_fit_start(trainer, net)
    callback.on_train_start(trainer, net)
    alone.train()  # a loop of schedulefree's own, without evaluations
    for number in range(6):
        step(net, optimizer, number)
        step(plain, alone, number)
        trained, saved = copy_of(net), {"state_dict": net.state_dict()}
        callback.on_save_checkpoint(trainer, net, saved)
        callback.on_validation_epoch_start(trainer, net)
        assert equal(saved["state_dict"], copy_of(net))
        callback.on_validation_epoch_end(trainer, net)
        assert equal(copy_of(net), trained)
        assert equal(saved["current_model_state"], trained)
    assert equal(copy_of(net), copy_of(plain))
    alone.eval()
    assert equal(saved["state_dict"], copy_of(plain))
    assert not equal(saved["state_dict"], saved["current_model_state"])


def test_it_resumes_within_an_epoch(resumed: Resumed, equal: Callable[[Any, Any], bool]) -> None:
    schedulefree = pytest.importorskip("schedulefree")
    factory = partial(schedulefree.AdamWScheduleFree, lr=0.01, warmup_steps=4)
    whole, parts = resumed(lambda: [ScheduleFreeWeights()], factory)
    for part in ("state_dict", "current_model_state", "optimizer_states", "weights"):
        assert equal(parts[part], whole[part])
    assert not equal(whole["state_dict"], whole["current_model_state"])


def test_a_run_is_validated_saved_and_evaluated_by_its_average(compose: Compose, tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    folder, words = tmp_path / "run", [*SHORT, "monitor=val/loss"]
    cfg = compose(*words)
    save_hydra_config(cfg, folder, words)
    best = run_train(cfg)
    reader = argv_for_reader([f"run={folder}"], "evaluate", tmp_path)
    run_evaluate(compose(*(word for word in reader if "hydra." not in word), verb="evaluate"))
    results, again = read_json(folder / "results.json"), read_json(folder / "evaluate" / "results.json")
    assert results["val/loss"] == again["val/loss"] == pytest.approx(best, rel=1e-6)
    assert results["weights"] == "schedule-free average"


def test_a_second_average_is_refused(compose: Compose) -> None:
    pytest.importorskip("schedulefree")
    with pytest.raises(UserError, match=r"one kind of weights, not those of .*optimizer=schedulefree"):
        run_train(compose(*SHORT, "callbacks=[default,ema]"))


def test_a_schedule_and_a_missing_package_are_answered_with_what_to_type(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_check.importlib.util, "find_spec", lambda _: None)  # type: ignore[attr-defined]
    with pytest.raises(UserError) as caught:
        check(compose(*SHORT, "scheduler=cosine"))
    assert "uv pip install -e '.[schedulefree]'" in str(caught.value)
    assert "type scheduler=none" in str(caught.value)
