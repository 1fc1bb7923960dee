from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from peers import plain
from peers.task import Parts, Task, prepare

pytestmark = pytest.mark.slow  # trains with each of the programs that the benchmarks compare

Facts = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def cifar(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return prepare(Task("cifar10_cnn", 1, str(tmp_path_factory.mktemp("run")), overrides=facts("cifar10")))


def test_photos_are_turned_into_numbers_of_the_right_scale(cifar: Parts) -> None:
    image, label = plain.validation(cifar)[3]
    val = cifar.data.examples["val"]
    assert label == int(val.targets[3])
    assert torch.allclose(image, val.inputs[3].float() / 127.5 - 1, atol=1e-6)
    augmented = plain.dataset(cifar)
    assert (len(augmented), augmented[0][0].shape) == (45_000, (3, 32, 32))  # type: ignore[arg-type]


def test_digits_are_those_of_our_training_split(facts: Facts, tmp_path: Path) -> None:
    parts = prepare(Task("mnist_mlp", 1, str(tmp_path), overrides=facts("mnist")))
    train, served = parts.data.examples["train"], plain.dataset(parts)
    for number in (0, 1234, 53_999):
        image, label = served[number]
        assert label == int(train.targets[number])
        assert torch.allclose(image, parts.inputs(train.inputs[number]), atol=1e-6)
    assert plain.workers(parts) == 0


def test_a_step_has_our_parameters_and_lowers_the_loss(cifar: Parts) -> None:
    assert plain.workers(cifar) == 2
    loop = plain.Loop(cifar)
    assert sum(p.numel() for p in loop.network.parameters()) == cifar.parameters == 315_722
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    losses = [loop.train(images, labels)[0] for _ in range(8)]
    assert losses[-1] < losses[0]


def test_an_epoch_over_texts_reads_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = plain.Loop(prepare(Task("phrases_lstm", 1, str(tmp_path), overrides=["data.batch_size=400"])))
    loop.epoch(0)
    assert "accuracy 0." in capsys.readouterr().out
    assert loop.parts.accuracy(loop.network) > 0.4
