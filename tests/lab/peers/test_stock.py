from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peers import stock
from peers.task import Task, prepare


@pytest.mark.parametrize("experiment", ["mnist_mlp", "phrases_lstm"])
def test_a_step_has_our_parameters_and_logs_a_metric(
    experiment: str, facts: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = prepare(Task(experiment, 1, str(tmp_path), overrides=facts(experiment.partition("_")[0])))
    module = stock.Lit(parts)
    logged: dict[str, Any] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    train = parts.data.examples["train"].take(torch.arange(4))
    batch = (parts.inputs(train.inputs), train.targets)
    loss = module.training_step(batch, 0)
    assert loss.requires_grad
    assert list(logged) == ["train_loss", "train_accuracy"]
    module.validation_step(batch, 0)
    assert 0 <= float(logged["val_accuracy"].compute()) <= 1
    assert sum(p.numel() for p in module.network.parameters()) == parts.parameters


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_it_waits_before_each_epoch_and_leaves_its_validation_out(gate: Any, tmp_path: Path) -> None:
    stock.run(Task("phrases_lstm", 2, str(tmp_path)), gate)
    epoch = ["go", ["aside"], ["back"], ["trained"]]
    assert [told if isinstance(told, str) else list(told) for told in gate.told] == [
        *(epoch * 2),
        "end",
        ["accuracy", "parameters"],
    ]
