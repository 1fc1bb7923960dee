"""The limit is worth something only if it computes what ours computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, seed_everything
from omegaconf import OmegaConf

from peers import tight
from peers.task import NOTHING, Task, prepare
from train_smarter.config.build import build

pytestmark = pytest.mark.slow  # trains with each of the programs that the benchmarks compare


class Losses(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:  # noqa: ARG002
        self.losses.append(float(outputs["loss"]))


RUNS = {
    "CNN, crop, cosine": (
        "digits_cnn",
        ["data.val_fraction=0.7", "scheduler=cosine", "model.dropout=0", "optimizer.lr=3e-3"],
    ),
    "CNN, turned, flipped": (
        "digits_cnn",
        [
            "data.val_fraction=0.7",
            "data.augment.rotation.degrees=10",
            "data.augment.flip.p=0.5",
            "model.dropout=0",
            "model.hidden=32",
        ],
    ),
    "MLP, brighter, clipped": (
        "digits_cnn",
        ["data.val_fraction=0.7", "model=mlp", "data.augment.jitter.brightness=0.5", "trainer.gradient_clip_val=0.1"],
    ),
    "MLP, as they are, another optimizer": (
        "digits_cnn",
        ["data.val_fraction=0.7", "model=mlp", "data.augment.crop=null", "optimizer=sgd", "optimizer.lr=0.1"],
    ),
    "LSTM, dropout": ("phrases_lstm", ["data.batch_size=400"]),
}


@pytest.mark.parametrize("name", RUNS)
def test_an_epoch_of_the_tight_loop_has_the_losses_of_ours(name: str, tmp_path: Path) -> None:
    experiment, overrides = RUNS[name]
    task = Task(experiment, 1, str(tmp_path), overrides=[*overrides, "trainer.limit_val_batches=1"])
    cfg, ours = task.compose(*NOTHING), Losses()
    seed_everything(cfg.seed, verbose=False)
    run = build(cfg, ours)
    run.trainer.fit(run.model, datamodule=run.data)

    loop = tight.Loop(prepare(task))
    loop.network.train()
    theirs = [float(loop.train(index)) for index in loop.batches]
    assert len(theirs) == len(ours.losses) >= 8
    assert theirs == pytest.approx(ours.losses, abs=2e-3)
    assert theirs[:5] == pytest.approx(ours.losses[:5], abs=1e-5)
    loop.count()
    accuracy = run.model.epoch_metrics["train"].scores()["accuracy"]
    assert int(loop.hits) == round(accuracy * len(run.data.examples["train"]))
    assert sum(p.numel() for p in loop.trained) == sum(p.numel() for p in run.model.parameters())


def test_an_epoch_counts_afresh(tmp_path: Path) -> None:
    loop = tight.Loop(prepare(Task("phrases_lstm", 2, str(tmp_path), overrides=["data.batch_size=400"])))
    loop.epoch(0)
    loop.epoch(1)
    assert 0.5 < int(loop.hits) / len(loop.targets) <= 1
    assert loop.step == 2 * len(loop.batches) == len(loop.rates)


def test_a_trick_follows_the_config_and_is_on_without_a_switch() -> None:
    cfg = OmegaConf.create({"trainer": {}, "model": {}, "data": {}, "optimizer": {"fused": False, "foreach": None}})
    assert not tight.switch(cfg, "fused")
    assert tight.switch(cfg, "channels_last")
    assert tight.switch(cfg, "foreach")


def test_gradients_are_cut_to_the_largest_norm() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    tight.clipper(parameters, 1.0)()
    assert [float(p.grad) for p in parameters if p.grad is not None] == pytest.approx([0.6, 0.8])
    tight.clipper(parameters, None)()
    tight.clipper(parameters, 2.0)()
    assert [float(p.grad) for p in parameters if p.grad is not None] == pytest.approx([0.6, 0.8])
