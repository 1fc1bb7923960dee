from typing import Any

import pytest
import torch
from torch import nn

from my_project.model.mlp import MLP
from train_smarter import Classification


def mlp(*shape: int, num_classes: int = 10, **options: Any) -> MLP:
    return MLP(shape=shape, task=Classification(num_classes=num_classes), **options)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def kinds(model: MLP) -> list[str]:
    return [type(module).__name__ for module in model.layers]


def test_it_has_the_parameters_of_the_article() -> None:
    assert size(mlp(1, 28, 28)) == (784 * 128 + 128) + (128 * 10 + 10) == 101_770


def test_it_has_the_layers_of_the_article() -> None:
    assert kinds(mlp(1, 28, 28)) == ["Flatten", "Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 5, 3)])
def test_images_become_logits(shape: tuple[int, int, int]) -> None:
    assert mlp(*shape, num_classes=7)(torch.rand(2, *shape)).shape == (2, 7)


def test_two_classes_are_one_logit() -> None:
    assert mlp(1, 4, 4, num_classes=2)(torch.rand(5, 1, 4, 4)).shape == (5, 1)


def test_it_takes_any_widths() -> None:
    model = mlp(1, 2, 2, num_classes=3, widths=[8, 5])
    assert kinds(model) == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert size(model) == (4 * 8 + 8) + (8 * 5 + 5) + (5 * 3 + 3)


def test_without_hidden_layers_it_is_linear() -> None:
    model = mlp(1, 2, 2, num_classes=3, widths=[])
    assert kinds(model) == ["Flatten", "Linear"]
    assert size(model) == 4 * 3 + 3


def test_batch_normalisation_stands_before_and_dropout_after_each_relu() -> None:
    model = mlp(1, 4, 4, widths=[8, 5], batch_norm=True, dropout=0.25)
    hidden = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert kinds(model) == ["Flatten", *hidden, *hidden, "Linear"]
    assert [layer.p for layer in model.layers if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
