from pathlib import Path

import pytest
import torch

from peers.task import Parts, Task, count, prepare


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return prepare(Task("digits_cnn", 3, str(tmp_path), overrides=["scheduler=cosine", "optimizer.lr=0.1"]))


def test_the_config_is_that_of_train_with_its_length_and_folder(tmp_path: Path) -> None:
    cfg = Task("mnist_mlp", 6, str(tmp_path)).compose()
    assert (cfg.trainer.max_epochs, cfg.trainer.accelerator, cfg.paths.run) == (6, "cpu", str(tmp_path))
    assert "tensorboard" in cfg.logger
    assert "early_stopping" in cfg.callbacks


def test_rates_fall_over_the_whole_race(parts: Parts) -> None:
    rates = parts.rates(2)  # a cosine over 6 steps: 0.05 * (1 + cos(pi * step / 6))
    assert rates == pytest.approx([0.1, 0.0933013, 0.075, 0.05, 0.025, 0.0066987], abs=1e-7)


def test_rates_stay_without_a_schedule(tmp_path: Path) -> None:
    parts = prepare(Task("digits_cnn", 2, str(tmp_path), overrides=["optimizer.lr=0.1"]))
    assert parts.rates(2) == [0.1] * 4


def test_the_network_starts_from_the_seed_and_sees_normalised_images(parts: Parts, tmp_path: Path) -> None:
    again = prepare(Task("digits_cnn", 3, str(tmp_path)))
    for one, other in zip(parts.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert parts.parameters == count(again.model)
    assert parts.images
    assert not parts.binary
    assert parts.inputs(torch.tensor([0, 255], dtype=torch.uint8)).flatten().tolist() == pytest.approx([-1, 1])


def test_accuracy_is_a_share_of_the_split(parts: Parts) -> None:
    class Right(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            labels = parts.data.examples["test"].targets[: len(images)]
            return torch.nn.functional.one_hot(labels, 10).float()

    assert len(parts.data.examples["test"]) <= 512
    assert parts.accuracy(Right()) == 1
